"""A text file as a sheet: a header and rows of cells, whatever separates and quotes them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import import_again
from labeldep_cli.ingest.dialect import Dialect, dialect_of, without_hint
from labeldep_cli.ingest.entries import Reading
from labeldep_cli.ingest.text import head_of, read_text

Numbered = list[tuple[int, list[str]]]
"""Rows, each with its line in the file."""

LIST_NAMES = {
    *("labels", "label", "tags", "tag", "classes", "class", "categories", "category", "genres", "genre", "targets"),
    *("target", "findinglabels", "findings", "choices", "choice", "keywords", "attributes", "attributeids"),
    *("annotations", "annotation", "labelname", "classname"),
}
"""Names of columns that list labels, in lower case, letters alone; `letters` makes them so."""


@dataclass(frozen=True)
class Sheet:
    """N rows of cells.

    Attributes:
        file: where it was read from.
        header: names of the C columns, stripped; empty if the file has none.
        rows: N rows of C cells, stripped. Without a header, rows may have different lengths.
        lines: the line of each row in the file, counted from 1.
        delimiter: the character between the columns; " " for runs of blanks.
    """

    file: Path
    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]
    delimiter: str

    def column(self, k: int) -> list[str]:
        """The N cells of a column."""
        return [row[k] for row in self.rows]


def read_sheet(file: Path, reading: Reading, how: ImportConfig) -> Sheet:
    """Read a sheet.

    Blank rows and comments are left out, and columns without a name after the last one that has a name.

    Args:
        file: a text file, which may be compressed by gzip.
        reading: takes sentences and broken rows.
        how: the user's flags, with what the form defines. Of them `delimiter`, `encoding` and `quotes` are used; what
            is not given is detected.

    Raises:
        DatasetError: the file is no text or has no rows; a row has too few or too many cells; a quotation mark has no
            partner.
    """
    text, understood = read_text(file, how, reading.source)
    text, how = without_hint(text, how)
    dialect = dialect_of(text, how)
    reading.understood += understood + dialect.sentences
    unquoted = import_again(reading.source, reading.config, quotes=False)
    found = [(line, row) for line, row in dialect.rows(text) if any(map(str.strip, row))]
    if not found:
        raise DatasetError(f"{file} is empty", "Name a file with a row for each image.")
    if what := _misquoted(text, found, dialect):
        raise DatasetError(
            f"{file}: {what}", f"Correct the mark there. Or read all marks as plain characters:\n{unquoted}"
        )
    found = _without_comments(found, dialect, reading)
    rows, lines = [[cell.strip() for cell in row] for _, row in found], [line for line, _ in found]
    if not how.quotes:
        _strip_marks(rows, reading)
    if looks_like_data(rows[0]):
        return Sheet(file, (), rows, lines, dialect.delimiter)
    header = _header(rows[0])
    rows, lines = evened(file, rows[1:], lines[1:], header, reading)
    return Sheet(file, header, rows, lines, dialect.delimiter)


def header_of(file: Path) -> tuple[str, ...]:
    """The column names of a file, for recognising its form; empty if it is no table with a header."""
    rows = head_rows(file)
    return _header(rows[0]) if rows and not looks_like_data(rows[0]) else ()


def head_rows(file: Path, n: int = 50) -> list[list[str]]:
    """The first rows of a file, stripped, the header among them, for recognising its form; empty if it is no table."""
    text = head_of(file)
    if not text or text.lstrip()[:1] in "{[<":  # JSON or XML
        return []
    text, how = without_hint(text, ImportConfig())
    try:
        found = list(islice(dialect_of(text, how).rows(text), n))
    except csv.Error:
        return []
    return [[c.strip() for c in row] for _, row in found if any(map(str.strip, row)) and not row[0].startswith("#")]


def looks_like_data(row: Sequence[str]) -> bool:
    """Whether a first row is an image with its labels, not the names of columns."""
    return any(is_image_name(cell) for cell in row[:2]) or all(
        re.fullmatch(r"-?\d+([.,]\d*)?", cell) for cell in row if cell
    )


def is_image_name(cell: str) -> bool:
    """Whether a cell ends as image files do."""
    return Path(cell).suffix.lower() in IMAGE_SUFFIXES


def letters(name: str) -> str:
    """The letters of a column's name in lower case: "Image Index" is "imageindex"."""
    return re.sub(r"[^a-z]", "", name.lower())


def _header(row: Sequence[str]) -> tuple[str, ...]:
    """The names of columns, without empty ones at the end."""
    width = max(k + 1 for k, name in enumerate(row) if name)
    return tuple(row[:width])


def _misquoted(text: str, found: Numbered, dialect: Dialect) -> str:
    """What is wrong with a quotation mark: it has no partner, so that its cell holds rows, or stands within a cell."""
    for number, (line, row) in enumerate(found[1:], start=2):
        for cell in row:
            if "\n" not in cell and "\r" not in cell:
                continue
            after = cell.splitlines()[1:]
            unfinished = number == len(found) and cell.endswith(("\n", "\r"))
            if unfinished or any(dialect.delimiter in text for text in after):
                first = line - len(after)
                return f"a quotation mark opens a cell in line {first} that ends in line {line}: it has swallowed rows"
    if '"' not in text and "'" not in text:
        return ""
    line = 0
    try:
        for line, _ in dialect.rows(text, strict=True):  # noqa: B007 - its last value is used
            pass
    except csv.Error:
        return f"a quotation mark closes a cell in line {line + 1}, but the cell goes on"
    return ""


def _without_comments(found: Numbered, dialect: Dialect, reading: Reading) -> Numbered:
    """Leave out rows that begin with `#`, unless most rows do."""
    comments = [(line, row) for line, row in found if row[0].lstrip().startswith("#")]
    if not comments or 2 * len(comments) > len(found):
        return found
    line, row = comments[0]
    reading.understood.append(f"comments left out: {len(comments)} (line {line}: {dialect.delimiter.join(row)[:60]!r})")
    return [(line, row) for line, row in found if not row[0].lstrip().startswith("#")]


def evened(
    file: Path, rows: list[list[str]], lines: list[int], header: tuple[str, ...], reading: Reading
) -> tuple[list[list[str]], list[int]]:
    """Give each row one cell for each column; rows that cannot have it are broken.

    Args:
        file: for messages.
        rows: N rows of cells.
        lines: the line of each row.
        header: the names of the columns. If the last one is a list's, further cells of a row are part of the list.
        reading: takes sentences and broken rows.

    Returns:
        The rows that are left, and their lines.
    """
    width, n_longer = len(header), 0
    list_is_last = letters(header[-1]) in LIST_NAMES
    even, kept = [], []
    for line, row in zip(lines, rows, strict=True):
        while len(row) > width and not row[-1]:
            row.pop()
        if len(row) > width and list_is_last:
            row[width - 1 :] = [";".join(filter(None, row[width - 1 :]))]
            n_longer += 1
        if len(row) == width:
            even.append(row)
            kept.append(line)
        else:
            reading.drop(
                f"{file}, line {line}: {len(row)} cells, but the header has {width}",
                "Give every row one cell for each column, in quotes if it contains the delimiter",
            )
    if n_longer:
        reading.understood.append(f"{n_longer} rows have more cells than columns: these are further labels")
    return even, kept


def _strip_marks(rows: list[list[str]], reading: Reading) -> None:
    """Remove quotation marks around cells, in place."""
    marked = [(row, k) for row in rows for k, cell in enumerate(row) if cell[:1] == '"' or cell[-1:] == '"']
    for row, k in marked:
        row[k] = row[k].strip('"').strip()
    if marked:
        reading.understood.append(f"quotation marks are removed from {len(marked)} cells")
