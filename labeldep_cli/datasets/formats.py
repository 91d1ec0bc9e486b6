"""FORMATS: the table of file formats for a user's own data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labeldep_cli.datasets.rows import Rows


@dataclass(frozen=True)
class FileFormat:
    """A file format.

    Attributes:
        title: its name in messages and in the help of `--dataset`.
        read: maps a file to its rows; it imports its module only when called, so that `--help` needs no numpy. Raises
            `DatasetError`, which names the file, the line and the problem.
        has_features: the file has ready features instead of paths of images.
    """

    title: str
    read: Callable[[Path], Rows]
    has_features: bool = False


def _csv(file: Path) -> Rows:
    from labeldep_cli.datasets import csv_file

    return csv_file.read(file)


def _jsonl(file: Path) -> Rows:
    from labeldep_cli.datasets import jsonl_file

    return jsonl_file.read(file)


def _coco_json(file: Path) -> Rows:
    from labeldep_cli.datasets import coco_json

    return coco_json.read(file)


def _ready_features(file: Path) -> Rows:
    from labeldep_cli.datasets import ready_features

    return ready_features.read_rows(file)


FORMATS: Mapping[str, FileFormat] = {
    ".csv": FileFormat("CSV", _csv),
    ".jsonl": FileFormat("JSONL", _jsonl),
    ".json": FileFormat("COCO JSON", _coco_json),
    ".npz": FileFormat(".npz of features", _ready_features, has_features=True),
    ".h5": FileFormat(".h5 of features", _ready_features, has_features=True),
}
"""Formats by the suffix of the file, in lower case."""


def holds_features(name: str) -> bool:
    """Whether a data set of this name is a file of ready features; the file is not opened."""
    row = FORMATS.get(Path(name).suffix.lower())
    return row is not None and row.has_features
