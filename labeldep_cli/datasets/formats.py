"""FORMATS: the table of file formats for a user's own data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.datasets import coco_json, csv_file, jsonl_file, ready_features
from labeldep_cli.datasets.rows import Rows


@dataclass(frozen=True)
class FileFormat:
    """A file format.

    Attributes:
        title: its name in messages.
        read: maps a file to its rows. Raises `DatasetError`, which names the file, the line and the problem.
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
"""Formats by the suffix of the file, in lower case."""
