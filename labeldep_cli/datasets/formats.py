"""FORMATS: the one table of files that a user's own data may come in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.datasets import coco_json, csv_file, jsonl_file, ready_features
from labeldep_cli.datasets.rows import Rows


@dataclass(frozen=True)
class FileFormat:
    """A kind of file.

    Attributes:
        title: as a message names it.
        read: maps a file to its rows. Raises `DatasetError`: it names the file, the place and what is wrong there.
    """

    title: str
    read: Callable[[Path], Rows]


FORMATS: Mapping[str, FileFormat] = {
    ".csv": FileFormat("CSV", csv_file.read),
    ".jsonl": FileFormat("JSONL", jsonl_file.read),
    ".json": FileFormat("COCO JSON", coco_json.read),
    ".npz": FileFormat(".npz", ready_features.read_rows),
    ".h5": FileFormat(".h5", ready_features.read_rows),
}
"""By the suffix of the file, in small letters."""
