"""A user's own data: a CSV, JSONL or COCO-format JSON of labels, or a file of ready features."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import (
    SPLITS,
    Dataset,
    Draw,
    Split,
    complete,
    label_space,
    lacking,
    require_unique,
    unknown_split,
)
from labeldep_cli.errors import DatasetError, nearest

SUFFIXES = (".csv", ".jsonl", ".json", ".npz", ".h5")
"""The kinds of file that `load` reads."""

_CODES = {"1": 1, "0": 0, "-1": 255, "": 255, "1.0": 1, "0.0": 0, "-1.0": 255}
"""Cells of a multi-hot column as bytes (255 is int8's -1); pandas writes 1.0 where a column has gaps."""


@dataclass(frozen=True)
class _Table:
    """What a file of any kind holds: N rows.

    Attributes:
        paths: N image paths or row names.
        labels: int8 [N, L] in {0, 1, -1}.
        names: the L labels.
        splits: a split name a row; None where the file names none.
        features: float32 [N, F]; None where the rows are images.
        notes: what the user should know of the reading.
    """

    paths: Sequence[str]
    labels: NDArray[np.int8]
    names: Sequence[str]
    splits: Sequence[str] | None
    features: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()


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
    table = read(file)
    if len(table.paths) == 0:
        raise DatasetError(f"{file} has no rows", "Add a row for each image.")
    require_unique(table.paths, file)
    _require_text((*table.paths, *table.names), file)
    space = label_space(table.names, file)
    if len(space) == 0:
        raise DatasetError(f"{file} names no label", "Name at least one label in at least one row.")
    whole = Split("train", tuple(table.paths), table.labels, space, file.parent, table.features)
    given = _given_splits(whole, table.splits, file)
    try:
        splits, notes = complete(given, draw)
    except DatasetError as error:
        raise DatasetError(f"{file}: {error.what}", error.remedy) from None
    return Dataset(dataset_name(file), splits, named=False, notes=table.notes + notes, drawn=lacking(given))


def _require_text(names: Sequence[str], file: Path) -> None:
    """Refuse halves of surrogate pairs, which JSON can write and no file of ours can hold.

    Raises:
        DatasetError: names the path or label.
    """
    try:
        "\n".join(names).encode()
    except UnicodeEncodeError as error:
        broken = next(name for name in names if error.object[error.start] in name)
        raise DatasetError(
            f"{file}: {broken!r} holds a character that is no text", "Write it in full: JSON's \\ud8.. needs its pair."
        ) from None


def dataset_name(file: Path) -> str:
    """Name a user's data set: its folder if the file is called `labels.*`, else its stem, plus six hex digits.

    The digits are of the SHA-256 of the absolute path, so that two files of one name do not share caches and runs.
    """
    resolved = file.resolve()
    stem = resolved.parent.name if resolved.stem == "labels" else resolved.stem
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".") or "data"
    return f"{plain}-{hashlib.sha256(str(resolved).encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"


def _find(path: Path) -> Path:
    """The file to read: the path itself, or the `labels.csv` of a folder."""
    if path.is_dir():
        if not (path / "labels.csv").is_file():
            others = sorted(p.name for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            remedy = f"Name the file: {', '.join(others[:5])}." if others else "Put the table there as labels.csv."
            raise DatasetError(f"the folder {path} holds no labels.csv", remedy)
        return path / "labels.csv"
    if not path.is_file():
        if not path.parent.is_dir():
            raise DatasetError(f"there is no file {path}", f"Its folder {path.parent} does not exist either.")
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix.lower() in SUFFIXES)
        raise DatasetError(f"there is no file {path}", nearest(path.name, siblings) if siblings else "Check the path.")
    return path


def _given_splits(whole: Split, splits: Sequence[str] | None, file: Path) -> dict[str, Split]:
    """Sort the rows into the splits that the file names; all are train where it names none."""
    if splits is None:
        return {"train": whole}
    names = np.array(splits)
    given = {name: whole.subset(name, np.flatnonzero(names == name)) for name in SPLITS if name in set(splits)}
    if "train" not in given:
        raise DatasetError(
            f"{file}: no row is in the train split",
            "Mark rows as train, or remove the split column to have splits drawn.",
        )
    return given


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


def _read_csv(file: Path) -> _Table:
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


def _read_multi_hot(file: Path, reader: Any, columns: _Columns) -> _Table:  # noqa: ANN401
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
    return _Table(paths, labels, columns.names, None if columns.split is None else splits)


def _strip_cells(file: Path, line: int, cells: list[str], columns: _Columns) -> bytes:
    """The values of a row with blanks around them, or an error that names the first bad one."""
    for name, cell in zip(columns.names, cells, strict=True):
        if cell.strip() not in _CODES:
            raise DatasetError(
                f"{file}, line {line}, column {name!r}: {cell!r} is not a label value",
                "Write 1 (present), 0 (absent), -1 or nothing (unknown).",
            )
    return bytes(_CODES[cell.strip()] for cell in cells)


def _read_names(file: Path, reader: Any, columns: _Columns) -> _Table:  # noqa: ANN401
    paths: list[str] = []
    splits: list[str] = []
    label_sets: list[list[str]] = []
    for _, path, split, row in _rows(file, reader, columns):
        paths.append(path)
        label_sets.append([name.strip() for name in row[columns.labels[0]].split(";") if name.strip()])
        if split is not None:
            splits.append(split)
    return _from_label_sets(paths, label_sets, None if columns.split is None else splits)


def _from_label_sets(paths: list[str], label_sets: list[list[str]], splits: list[str] | None) -> _Table:
    """Encode sets of names over the sorted names that occur."""
    names = sorted({name for labels in label_sets for name in labels})
    column_of = {name: column for column, name in enumerate(names)}
    y = np.zeros((len(paths), len(names)), dtype=np.int8)
    for row, labels in enumerate(label_sets):
        y[row, [column_of[name] for name in labels]] = 1
    return _Table(paths, y, names, splits)


def _read_jsonl(file: Path) -> _Table:
    paths: list[str] = []
    splits: list[str] = []
    label_sets: list[list[str]] = []
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        entry = _json_row(file, number, line)
        paths.append(entry["path"])
        label_sets.append([name.strip() for name in entry["labels"]])
        if "split" in entry:
            if entry["split"] not in SPLITS:
                raise unknown_split(file, f"line {number}", entry["split"])
            splits.append(entry["split"])
        if splits and len(splits) != len(paths):
            raise DatasetError(
                f"{file}, line {number}: only some rows have a split", "Give every row a split, or none of them."
            )
    return _from_label_sets(paths, label_sets, splits or None)


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
    if not isinstance(entry["labels"], list):
        raise DatasetError(f"{where}: 'labels' is {entry['labels']!r}, not a list of names", form)
    for name in entry["labels"]:
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{where}: the label {name!r} is not a name", form)
    return entry


def _read_coco_json(file: Path) -> _Table:
    from labeldep_cli.datasets import coco

    found = coco.load_json(file)
    empty = int((~found.annotated).sum())
    # Unlike COCO's own images, which the papers leave out, a user's image without annotations is one without labels.
    notes = (f"{empty} of {len(found.files)} images have no annotation: they count as images without labels",)
    return _Table(found.files, found.labels, found.space.names, None, notes=notes if empty else ())


def _read_features(file: Path) -> _Table:
    from labeldep_cli.datasets import ready_features

    found = ready_features.read(file)
    rows = [f"row-{row}" for row in range(len(found.features))]
    return _Table(rows, found.labels, found.label_names, found.splits, found.features)


_READERS: dict[str, Callable[[Path], _Table]] = {
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".json": _read_coco_json,
    ".npz": _read_features,
    ".h5": _read_features,
}
