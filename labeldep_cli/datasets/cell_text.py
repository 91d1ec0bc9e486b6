r"""Cells of CSV: names that every reader of CSV gives back as they are, and that a spreadsheet does not compute.

A spreadsheet takes a cell for a formula that begins with `=`, `+`, `-` or `@`, or with a tabulator or a carriage return
before one. Such a text is written as JSON, which is the same name and begins with `"` or `[`; such a path begins with
`./`, which is the same file. Numbers stay numbers.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence

from labeldep_cli.text import is_hidden, json_text

_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
"""How a formula begins; also in the full-width forms of East Asian keyboards."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

_SAME_FOLDER = "./"


def csv_line(cells: Sequence[object], delimiter: str = ",") -> str:
    r"""A row of CSV with its line end. A cell with `\r` is in quotes too, which Python's writer forgets."""
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerow(cells)
    return stream.getvalue()[: -len("\r\n")] + "\n"


def may_be_formula(text: str) -> bool:
    """Whether a spreadsheet may take a cell for a formula. A number is none."""
    return bool(_FORMULA.match(text)) and not _NUMBER.fullmatch(text)


def text_cell(text: str) -> str:
    """A text as a cell of one line: as JSON, if it may be a formula, has hidden characters or begins as JSON does."""
    return text if _is_plain(text) and not text.startswith('"') else json_text(text)


def text_of(cell: str) -> str:
    """The text of a cell.

    Raises:
        ValueError: the cell is no JSON, though it begins as JSON does.
    """
    return str(json.loads(cell)) if cell.startswith('"') else cell


def word_of(cell: str) -> str:
    """The text of a cell that `text_cell` has made; any other cell as it is."""
    try:
        text = text_of(cell)
    except ValueError:
        return cell
    return text if text_cell(text) == cell else cell


def list_cell(names: Sequence[str]) -> str:
    """Names as in a canonical table, `beach;person`; as JSON, if that could not be read back or may be a formula."""
    text = ";".join(names)
    readable = all(name and ";" not in name and name == name.strip() for name in names)
    # Each of the names too: some spreadsheets take ";" for the end of a cell.
    is_plain = _is_plain(text) and not text.startswith(("[", "{", "(", '"')) and not any(map(may_be_formula, names))
    return text if is_plain and readable else json_text(list(names))


def _is_plain(text: str) -> bool:
    return not may_be_formula(text) and (text.isprintable() or not any(map(is_hidden, text)))


def path_cell(path: str) -> str:
    """A path as a cell: with `./` before it, if it may be a formula or begins with a blank that readers leave out."""
    return _SAME_FOLDER + path if may_be_formula(path) or path[:1].isspace() else path


def path_of(cell: str) -> str:
    """The path of a cell that `path_cell` has made."""
    path = cell.removeprefix(_SAME_FOLDER)
    return path if path_cell(path) == cell else cell
