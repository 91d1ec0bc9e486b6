"""The canonical table: the CSV that `labeldep import` writes and that every command reads without a question.

    path,split,group,fold,labels,unknown
    a.jpg,train,patient-1,0,beach;person,
    b.jpg,test,patient-2,1,boat,person

`split`, `group` and `fold` are there if the data have them. A label that a row does not list is absent. Where labels
are unknown, `unknown` lists them; or, if that is shorter, `absent` lists those that are absent, and all others are
unknown. `labels_json` in place of `labels` has the lists as JSON: such names are taken exactly as they are written.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.files import write_text

SEPARATOR = ";"
LABELS, LABELS_JSON = "labels", "labels_json"


def write_table(rows: Rows, file: Path, exact: bool = False) -> None:
    """Write rows as a canonical table.

    Args:
        rows: of images; `paths` are written as they are.
        file: the CSV; it appears whole or not at all.
        exact: write the lists as JSON. They are anyway if a name could not be read back from a list with `;`.

    Raises:
        StorageError: the file cannot be written.
    """
    exact = exact or any(SEPARATOR in name or name != name.strip() or not name for name in rows.names)
    third = _third_column(rows)
    header = ["path", *(key for key, value in _optional(rows) if value is not None), LABELS_JSON if exact else LABELS]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*header, third] if third else header)
    optional = [value for _, value in _optional(rows) if value is not None]
    for row, path in enumerate(rows.paths):
        y = rows.labels[row]
        lists = [np.flatnonzero(y == 1)]
        if third:
            lists.append(np.flatnonzero(y == (UNKNOWN if third == "unknown" else 0)))
        cells = [_cell([rows.names[int(k)] for k in listed], exact) for listed in lists]
        writer.writerow([path, *(value[row] for value in optional), *cells])
    write_text(file, stream.getvalue())


def _optional(rows: Rows) -> tuple[tuple[str, Sequence[object] | None], ...]:
    return ("split", rows.splits), ("group", rows.groups), ("fold", rows.folds)


def _third_column(rows: Rows) -> str:
    """The shorter of the lists that tell absent labels from unknown ones; empty if all labels are known."""
    n_unknown = int((rows.labels == UNKNOWN).sum())
    if n_unknown == 0:
        return ""
    return "unknown" if n_unknown <= int((rows.labels == 0).sum()) else "absent"


def _cell(names: Sequence[str], exact: bool) -> str:
    return json.dumps(names, ensure_ascii=False) if exact else SEPARATOR.join(names)
