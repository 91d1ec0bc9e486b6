"""A user's own data: a CSV, JSONL or COCO-format JSON of labels, or a file of ready features."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.datasets.rows import Rows, as_dataset, label_names, name_with_digest
from labeldep_cli.datasets.split import SPLITS, Dataset, Draw, unknown_split
from labeldep_cli.errors import DatasetError, nearest

SUFFIXES = (".csv", ".jsonl", ".json", ".npz", ".h5")
"""The kinds of file that `load` reads."""

_CODES = {"1": 1, "0": 0, "-1": 255, "": 255, "1.0": 1, "0.0": 0, "-1.0": 255}
"""Cells of a multi-hot column as bytes (255 is int8's -1); pandas writes 1.0 where a column has gaps."""


def load(path: Path, draw: Draw) -> Dataset:
    """Load a user's own data set; splits that it does not name are drawn from train.

    Args:
        path: a CSV (`path[,split],label,label,...` multi-hot, or `path[,split],labels` with `;` between names), a JSONL
            (`{"path": ..., "labels": [...]}` a line), a COCO-format JSON, an `.npz` or `.h5` of ready features (`X`
            [N, F], `Y` [N, L], `label_names`, optional `split`), or a folder holding `labels.csv`. Image paths are
            relative to the file.
        draw: how to draw the splits that are lacking.

    Raises:
        DatasetError: the file is missing or malformed; it names the file, the line and what is wrong there.
    """
    file = _find(path)
    read = _READERS.get(file.suffix.lower())
    if read is None:
        raise DatasetError(
            f"{file}: the suffix {file.suffix!r} is none that labeldep reads", f"It reads {', '.join(SUFFIXES)}."
        )
    return as_dataset(read(file), file, dataset_name(file), draw)


def dataset_name(file: Path) -> str:
    """Name a user's data set: its folder if the file is called `labels.*`, else its stem, plus six hex digits."""
    resolved = file.resolve()
    return name_with_digest(resolved.parent.name if resolved.stem == "labels" else resolved.stem, resolved)


def _find(path: Path) -> Path:
    """The file to read: the path itself, or the `labels.csv` of a folder."""
    if path.is_dir():
        if not (path / "labels.csv").is_file():
            others = sorted(p.name for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            remedy = f"Name the file: {', '.join(others[:5])}." if others else "Put the table there as labels.csv."
            if any(path.glob("*.tar")):
                remedy = f"Name its shards: '{path}/*.tar'"
            raise DatasetError(f"the folder {path} holds no labels.csv", remedy)
        return path / "labels.csv"
    if not path.is_file():
        if not path.parent.is_dir():
            raise DatasetError(f"there is no file {path}", f"Its folder {path.parent} does not exist either.")
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix.lower() in SUFFIXES)
        raise DatasetError(f"there is no file {path}", nearest(path.name, siblings) if siblings else "Check the path.")
    return path


def _text(file: Path) -> str:
    """The whole file as text; a byte order mark is dropped."""
    content = _content(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{file} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}", "Save it as UTF-8."
        ) from None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None


def _read_csv(file: Path) -> Rows:
    reader = csv.reader(io.StringIO(_text(file), newline=""))
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
    """Where a CSV keeps what: the columns of path, split (or none) and labels; `width` columns in all."""

    path: int
    split: int | None
    labels: tuple[int, ...]
    names: tuple[str, ...]
    width: int

    @property
    def listed(self) -> bool:
        """Whether one column `labels` lists names, rather than one column a label."""
        return self.names == ("labels",)


def _columns(file: Path, header: list[str]) -> _Columns:
    names = [name.strip() for name in header]
    for number, name in enumerate(names, start=1):
        if not name:
            raise DatasetError(
                f"{file}: column {number} has no name", "Name it or remove it (pandas: to_csv(..., index=False))."
            )
        if name in names[: number - 1]:
            raise DatasetError(f"{file}: the column {name!r} stands twice", "Merge the two, or rename one.")
    if "path" not in names:
        raise DatasetError(
            f"{file} has no column 'path'; its columns are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}",
            "The header is path[,split],label,label,... or path[,split],labels, with commas between columns.",
        )
    labels = tuple(i for i, name in enumerate(names) if name not in ("path", "split"))
    if not labels:
        raise DatasetError(f"{file} has no label column", "Add one column a label, or one column `labels`.")
    if "labels" in names and len(labels) > 1:
        raise DatasetError(
            f"{file}: the column 'labels' stands beside {names[next(i for i in labels if names[i] != 'labels')]!r}",
            "Keep either one column a label, or the one column `labels`.",
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
                "Give every row one field a column; quote a field that holds a comma.",
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
    """The values of a row with blanks around them, or an error that names the first bad one."""
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


def _read_jsonl(file: Path) -> Rows:
    paths: list[str] = []
    splits: list[str] = []
    label_sets: list[list[str]] = []
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        entry = _json_row(file, number, line)
        paths.append(entry["path"])
        label_sets.append(entry["labels"])
        if "split" in entry:
            if entry["split"] not in SPLITS:
                raise unknown_split(file, f"line {number}", entry["split"])
            splits.append(entry["split"])
        if splits and len(splits) != len(paths):
            raise DatasetError(
                f"{file}, line {number}: only some rows have a split", "Give every row a split, or none of them."
            )
    return Rows.of_label_sets(paths, label_sets, splits or None)


def _json_row(file: Path, number: int, line: str) -> dict[str, Any]:
    """Parse one line of a JSONL and check the types of what it holds."""
    where = f"{file}, line {number}"
    form = 'A line is {"path": "a.jpg", "labels": ["sea", "sunset"]}, with an optional "split".'
    try:
        entry = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DatasetError(f"{where}: not valid JSON: {why}", form) from None
    if not isinstance(entry, dict):
        raise DatasetError(f"{where}: not a JSON object", form)
    for key in ("path", "labels"):
        if key not in entry:
            raise DatasetError(f"{where}: there is no {key!r}", form)
    if not isinstance(entry["path"], str) or not entry["path"]:
        raise DatasetError(f"{where}: 'path' is {entry['path']!r}, not a path", form)
    entry["labels"] = label_names(entry["labels"], where, form)
    return entry


def _read_coco_json(file: Path) -> Rows:
    from labeldep_cli.datasets import coco

    found = coco.load_json(file)
    empty = int((~found.annotated).sum())
    # Unlike COCO's own images, which the papers leave out, a user's image without annotations is one without labels.
    notes = (f"{empty} of {len(found.files)} images have no annotation: they count as images without labels",)
    return Rows(found.files, found.labels, found.space.names, None, notes=notes if empty else ())


def _read_features(file: Path) -> Rows:
    from labeldep_cli.datasets import ready_features

    found = ready_features.read(file)
    rows = [f"row-{row}" for row in range(len(found.features))]
    return Rows(rows, found.labels, found.label_names, found.splits, found.features)


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_coco_json,
    ".npz": _read_features,
    ".h5": _read_features,
}
