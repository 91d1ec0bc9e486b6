"""The table that `labeldep import` writes: read again to correct it, to leave labels out or to draw its splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets import csv_file
from labeldep_cli.datasets.canonical import ABSENT_LABELS, LABELS, LABELS_JSON, UNKNOWN_LABELS
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import add_found
from labeldep_cli.ingest.sheet import header_of

_COLUMNS = {"path", "split", "group", "fold", LABELS, LABELS_JSON, UNKNOWN_LABELS, ABSENT_LABELS}
_OWN = {LABELS_JSON, UNKNOWN_LABELS, ABSENT_LABELS}
"""Columns that no other program writes."""


def recognises(source: Path) -> bool:
    """Whether a file has columns of this table alone, and one that only this table has."""
    if not source.is_file():
        return False
    header = set(header_of(source))
    return "path" in header and bool(header & _OWN) and header <= _COLUMNS


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the table with the reader that all commands use.

    Raises:
        DatasetError: the table was changed so that it is malformed.
    """
    rows = csv_file.read(source)
    reading = Reading(source, config, names="columns", declared=list(rows.names))
    splits: Sequence[str | None] = rows.splits or [None] * len(rows.paths)
    entries = [
        Entry(
            path,
            {rows.names[k]: int(y[k]) for k in np.flatnonzero(y).tolist()},
            split=splits[row],
            group=None if rows.groups is None else rows.groups[row],
            fold=None if rows.folds is None else rows.folds[row],
        )
        for row, (path, y) in enumerate(zip(rows.paths, rows.labels, strict=True))
    ]
    add_found(entries, source, None, reading)
    return reading.finish(source.parent)
