"""Tables that list labels by number, such as "25 0" (HPA, iMet), and the names of the numbers beside them."""

from __future__ import annotations

import re
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import defined, read_tables
from labeldep_cli.ingest.sheet import LIST_NAMES, head_rows, letters
from labeldep_cli.ingest.table_files import tables_of
from labeldep_cli.ingest.text import read_text

_NAMES = ("labels.csv", "classes.csv", "classes.txt", "label_names.csv", "label_names.txt")
"""Names of files that may have the names of the numbers."""

_LIST = re.compile(r"\d*( \d+)*")


def recognises(source: Path) -> bool:
    """Whether the second of two columns lists numbers with blanks between them."""
    return any(_lists_numbers(head_rows(file)) for _, file in tables_of(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the table. The names of the labels are those of --label-names, else those of a file beside, else numbers.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    names, place = ({}, None) if config.label_names else _names_beside(tables_of(source)[0][1], config)
    unnamed = [] if config.label_names else ["labels are called by their numbers; --label-names gives them names"]
    understood = [f"names of the label numbers from {place}"] if place else unnamed
    how = defined(config, label_separator=" ")
    return read_tables(source, config, how, names=names or None, understood=understood)


def _lists_numbers(rows: list[list[str]]) -> bool:
    if not rows or len(rows[0]) != 2 or letters(rows[0][1]) not in LIST_NAMES:
        return False
    cells = [row[1] for row in rows[1:] if len(row) == 2]
    return any(" " in cell for cell in cells) and all(_LIST.fullmatch(cell) for cell in cells)


def _names_beside(table: Path, config: ImportConfig) -> tuple[dict[str, str], Path | None]:
    """The name of each number, and the file with them: lines `number,name`, or a name a line; None if there is none."""
    for file in (table.parent / name for name in _NAMES):
        if not file.is_file() or file == table:
            continue
        lines = [line.strip() for line in read_text(file, config, file)[0].splitlines() if line.strip()]
        pairs = [match for line in lines if (match := re.fullmatch(r'(\d+)[,;\t ]+"?(.+?)"?', line))]
        if len(pairs) >= len(lines) - 1 > 0:  # the first line may name the columns
            return {pair[1]: pair[2] for pair in pairs}, file
        if file.suffix == ".txt":
            return {str(number): name for number, name in enumerate(lines)}, file
    return {}, None
