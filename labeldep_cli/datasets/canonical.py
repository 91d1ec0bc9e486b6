"""The canonical table: the CSV that `labeldep import` writes and that every command reads without a question.

    path,split,group,fold,labels,unknown
    a.jpg,train,patient-1,0,beach;person,
    b.jpg,test,patient-2,1,boat,person

`split`, `group` and `fold` are there if the data have them. A label that a row does not list is absent. Where labels
are unknown, `unknown` lists them; or, if that is shorter, `absent` lists those that are absent, and all others are
unknown. `labels_json` in place of `labels` has the lists as JSON: such names are taken exactly as they are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labeldep_cli.datasets.cell_text import csv_line, may_be_formula, path_cell, text_cell
from labeldep_cli.datasets.doubts.names import names_doubt
from labeldep_cli.datasets.label_cells import SEPARATOR, read_cells
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import write_text
from labeldep_cli.text import is_utf8, json_text

LABELS, LABELS_JSON = "labels", "labels_json"
UNKNOWN_LABELS, ABSENT_LABELS = "unknown", "absent"


def write_table(rows: Rows, file: Path, exact: bool = False) -> None:
    """Write rows as a canonical table.

    Args:
        rows: of images; `paths` are written as they are, with `./` where a spreadsheet would compute them.
        file: the CSV; it appears whole or not at all.
        exact: write the lists as JSON. They are anyway if lists with `;` could not be read back, or not without a
            question about the names, or if a spreadsheet would compute a name.

    Raises:
        DatasetError: a path cannot be in a table.
        StorageError: the file cannot be written.
    """
    for path in rows.paths:
        _require_one_line(path)
    third = _third_column(rows)
    columns = [_lists(rows, 1)]
    if third:
        columns.append(_lists(rows, UNKNOWN if third == UNKNOWN_LABELS else 0))
    exact = exact or not _reads_back([names for column in columns for names in column])
    optional = {key: value for key, value in _optional(rows) if value is not None}
    header = ["path", *optional, LABELS_JSON if exact else LABELS, *([third] if third else [])]
    lists = ([_cell(names, exact) for names in column] for column in columns)
    lines = zip(map(path_cell, rows.paths), *optional.values(), *lists, strict=True)
    write_text(file, "".join(map(csv_line, (header, *lines))))


def _require_one_line(path: str) -> None:
    """Refuse a path that the reader of tables could not give back."""
    faults = {
        "is not in UTF-8": not is_utf8(path),
        "has a line end": "\r" in path or "\n" in path,
        "ends in a blank": path != path.rstrip(),
    }
    if why := next((why for why, is_so in faults.items() if is_so), ""):
        raise DatasetError(f"the path {path!r} cannot be in a table: it {why}", "Rename the file, or move it away.")


def _lists(rows: Rows, value: int) -> list[list[str]]:
    """The names of the labels of each row that have a value."""
    return [[rows.names[int(k)] for k in np.flatnonzero(y == value)] for y in rows.labels]


def _reads_back(lists: Sequence[list[str]]) -> bool:
    """Whether lists with `;` are read as they are meant, without a question."""
    if any(may_be_formula(name) or "\r" in name or "\n" in name for names in lists for name in names):
        return False
    cells = read_cells([_cell(names, exact=False) for names in lists])
    counts = Counter(name for names in lists for name in names)
    return cells.label_sets == list(lists) and not cells.odd and names_doubt(counts, cells.separated) is None


def _optional(rows: Rows) -> tuple[tuple[str, Sequence[object] | None], ...]:
    groups = None if rows.groups is None else [text_cell(str(group)) for group in rows.groups]
    return ("split", rows.splits), ("group", groups), ("fold", rows.folds)


def _third_column(rows: Rows) -> str:
    """The shorter of the lists that tell absent labels from unknown ones; empty if all labels are known."""
    n_unknown = int((rows.labels == UNKNOWN).sum())
    if n_unknown == 0:
        return ""
    return UNKNOWN_LABELS if n_unknown <= int((rows.labels == 0).sum()) else ABSENT_LABELS


def _cell(names: Sequence[str], exact: bool) -> str:
    return json_text(list(names)) if exact else SEPARATOR.join(names)
