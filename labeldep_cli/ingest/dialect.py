"""What separates and quotes the cells of a text file."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.errors import DatasetError

DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tabulator", "|": "a bar", " ": "blanks"}
"""Characters between columns, likelier ones first, and their names."""

_WORDS = {"tab": "\t", "\\t": "\t", "blank": " "}
_PROBED = 100
_PROBED_CHARACTERS = 1 << 18
_LONGEST_CELL = 1 << 24


@dataclass(frozen=True)
class Dialect:
    """How rows are written.

    Attributes:
        delimiter: the character between columns; " " stands for any number of blanks.
        quote: the quotation mark; None if there is none.
    """

    delimiter: str
    quote: str | None

    def rows(self, text: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield each row with the line where it ends.

        Args:
            text: of the file.
            strict: whether a quotation mark at a wrong place is an error.

        Raises:
            csv.Error: names the problem; the row is the one after those that were yielded.
        """
        if self.delimiter == " ":
            yield from ((number, line.split()) for number, line in enumerate(text.splitlines(), start=1))
            return
        csv.field_size_limit(_LONGEST_CELL)
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            skipinitialspace=self.delimiter != "\t",
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            strict=strict,
        )
        for row in reader:
            yield reader.line_num, row

    @property
    def sentences(self) -> list[str]:
        """What a user should know about it; nothing for a usual CSV."""
        sentences = []
        if self.delimiter != ",":
            sentences.append(f"between columns: {DELIMITERS.get(self.delimiter, repr(self.delimiter))}")
        if self.quote == "'":
            sentences.append("cells are in single quotation marks")
        return sentences


def dialect_of(text: str, config: ImportConfig) -> Dialect:
    """The dialect of a text: what the flags say, else what its first rows show.

    Raises:
        DatasetError: --delimiter is not one character.
    """
    delimiter = _WORDS.get(config.delimiter or "", config.delimiter)
    if delimiter is not None and len(delimiter) != 1:
        raise DatasetError(f"the delimiter {delimiter!r} is not one character", "Name one, such as ';', or tab.")
    start = "\n".join(text[:_PROBED_CHARACTERS].splitlines()[:_PROBED]) + "\n"
    delimiter = delimiter or max(DELIMITERS, key=lambda each: _fitness(start, each))
    return Dialect(delimiter, _quote(start, delimiter) if config.quotes else None)


def without_hint(text: str, config: ImportConfig) -> tuple[str, ImportConfig]:
    """Without the line `sep=;` that Excel reads and writes, and with its delimiter, unless a flag names one."""
    hint = re.match(r"sep=(.)(?=\r?\n)", text)
    if hint is None:
        return text, config
    return text[hint.end() :], config if config.delimiter else replace(config, delimiter=hint[1])


def _fitness(text: str, delimiter: str) -> tuple[bool, float, int]:
    """How well a delimiter divides a text: most rows into several cells, all into as many as the first, into many."""
    try:
        rows = [row for _, row in Dialect(delimiter, '"').rows(text) if any(map(str.strip, row))]
    except csv.Error:
        rows = []
    rows = [row for row in rows if not row[0].lstrip().startswith("#")]
    if not rows:
        return False, 0.0, 0
    width = len(rows[0])
    even = sum(len(row) == width for row in rows) / len(rows)
    divides = 2 * sum(len(row) > 1 for row in rows) > len(rows)
    return divides and delimiter != " ", round(even, 1), width  # blanks are also within names: they are the last choice


def _quote(text: str, delimiter: str) -> str:
    """The quotation mark: the single one if nearly all cells stand between two of them."""
    rows = [row for _, row in Dialect(delimiter, None).rows(text)]
    cells = [cell for row in rows[1:] for cell in map(str.strip, row) if cell]
    single = sum(len(cell) > 1 and cell[0] == cell[-1] == "'" for cell in cells)
    return "'" if cells and single > 0.9 * len(cells) else '"'
