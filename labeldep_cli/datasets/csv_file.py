"""Read a user's own labels from a CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split import SPLITS, unknown_split
from labeldep_cli.datasets.text_file import read_text
from labeldep_cli.errors import DatasetError

_CODES = {"1": 1, "0": 0, "-1": 255, "": 255, "1.0": 1, "0.0": 0, "-1.0": 255}
"""The values of a multi-hot column as bytes; 255 is -1 as int8. pandas writes 1.0 if a column has empty cells."""


def read(file: Path) -> Rows:
    """Read a CSV: `path[,split],label,label,...` multi-hot, or `path[,split],labels` with `;` between names.

    Raises:
        DatasetError: the file is malformed; names the line, the column and the problem.
    """
    reader = csv.reader(io.StringIO(read_text(file), newline=""))
    try:
        header = next((row for row in reader if row), None)
        if header is None:
            raise DatasetError(f"{file} is empty", "Its first line is the header: path[,split],label,label,...")
        columns = _columns(file, header)
        return _read_names(file, reader, columns) if columns.listed else _read_multi_hot(file, reader, columns)
    except csv.Error as error:
        raise DatasetError(f"{file}, line {reader.line_num}: {error}", "Save it as a plain CSV.") from None


@dataclass(frozen=True)
class _Columns:
    """The columns of a CSV.

    Attributes:
        path, split, labels: the numbers of these columns; `split` is None if there is none.
        names: names of the label columns.
        width: number of columns.
    """

    path: int
    split: int | None
    labels: tuple[int, ...]
    names: tuple[str, ...]
    width: int

    @property
    def listed(self) -> bool:
        """Whether one column `labels` lists names; otherwise there is one column per label."""
        return self.names == ("labels",)


def _columns(file: Path, header: list[str]) -> _Columns:
    names = [name.strip() for name in header]
    for number, name in enumerate(names, start=1):
        if not name:
            raise DatasetError(
                f"{file}: column {number} has no name", "Name it or remove it (pandas: to_csv(..., index=False))."
            )
        if name in names[: number - 1]:
            raise DatasetError(f"{file}: there are two columns {name!r}", "Merge the two, or rename one.")
    if "path" not in names:
        raise DatasetError(
            f"{file} has no column 'path'; its columns are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            "The header is path[,split],label,label,... or path[,split],labels, with commas between columns.",
        )
    labels = tuple(i for i, name in enumerate(names) if name not in ("path", "split"))
    if not labels:
        raise DatasetError(f"{file} has no label column", "Add one column per label, or one column `labels`.")
    if "labels" in names and len(labels) > 1:
        raise DatasetError(
            f"{file} has a column 'labels' and also {names[next(i for i in labels if names[i] != 'labels')]!r}",
            "Keep either one column per label, or the single column `labels`.",
        )
    split = names.index("split") if "split" in names else None
    return _Columns(names.index("path"), split, labels, tuple(names[i] for i in labels), len(names))


def _rows(file: Path, reader: Any, columns: _Columns) -> Iterator[tuple[int, str, str | None, list[str]]]:  # noqa: ANN401
    """Yield (line, path, split, all fields) of each row that is not blank; `reader` is a csv.reader."""
    for row in reader:
        if not row:
            continue
        line = reader.line_num
        if len(row) != columns.width:
            raise DatasetError(
                f"{file}, line {line}: {len(row)} fields, but the header has {columns.width}",
                "Give every row one field per column; quote a field that contains a comma.",
            )
        path = row[columns.path].strip()
        if not path:
            raise DatasetError(f"{file}, line {line}: the path is empty", "Name an image, or remove the row.")
        split = None if columns.split is None else row[columns.split].strip()
        if split is not None and split not in SPLITS:
            raise unknown_split(file, f"line {line}", split)
        yield line, path, split, row


def _read_multi_hot(file: Path, reader: Any, columns: _Columns) -> Rows:  # noqa: ANN401
    paths: list[str] = []
    splits: list[str] = []
    values = bytearray()
    for line, path, split, row in _rows(file, reader, columns):
        cells = [row[i] for i in columns.labels]
        try:
            values += bytes(map(_CODES.__getitem__, cells))  # one pass in C: 16 million cells in about a second
        except KeyError:
            values += _strip_cells(file, line, cells, columns)
        paths.append(path)
        if split is not None:
            splits.append(split)
    labels = np.frombuffer(bytes(values), dtype=np.int8).reshape(len(paths), len(columns.labels))
    return Rows(paths, labels, columns.names, None if columns.split is None else splits)


def _strip_cells(file: Path, line: int, cells: list[str], columns: _Columns) -> bytes:
    """The values of a row with spaces around its cells; DatasetError if a cell is not a label value."""
    for name, cell in zip(columns.names, cells, strict=True):
        if cell.strip() not in _CODES:
            raise DatasetError(
                f"{file}, line {line}, column {name!r}: {cell!r} is not a label value",
                "Write 1 (present), 0 (absent), -1 or nothing (unknown)."
                + (" A column of names has the header `labels`." if len(cells) == 1 else ""),
            )
    return bytes(_CODES[cell.strip()] for cell in cells)


def _read_names(file: Path, reader: Any, columns: _Columns) -> Rows:  # noqa: ANN401
    paths: list[str] = []
    splits: list[str] = []
    label_sets: list[list[str]] = []
    for _, path, split, row in _rows(file, reader, columns):
        paths.append(path)
        label_sets.append([name.strip() for name in row[columns.labels[0]].split(";") if name.strip()])
        if split is not None:
            splits.append(split)
    return Rows.of_label_sets(paths, label_sets, None if columns.split is None else splits)
