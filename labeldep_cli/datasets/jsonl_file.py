"""Read a user's own labels from a JSONL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labeldep_cli.datasets.rows import Rows, label_names
from labeldep_cli.datasets.split import SPLITS, unknown_split
from labeldep_cli.datasets.text_file import read_text
from labeldep_cli.errors import DatasetError


def read(file: Path) -> Rows:
    """Read a JSONL: one `{"path": ..., "labels": [...]}` per line, with an optional `"split"`.

    Raises:
        DatasetError: the file is malformed; names the line and the problem.
    """
    paths: list[str] = []
    splits: list[str] = []
    label_sets: list[list[str]] = []
    for number, line in enumerate(read_text(file).split("\n"), start=1):
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
    """Parse one line of a JSONL and check the types of its values."""
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
