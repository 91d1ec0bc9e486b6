"""The names of the files in a run's folder. This module does not import torch, so that runs can be listed quickly."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from labeldep_cli.errors import CheckpointError

CONFIG = "config.json"
LAST = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
RESULT = "result.json"
ROWS = "rows.safetensors"
"""Which rows and labels the run was trained on."""
LOCK = ".lock"
TENSORBOARD = "tensorboard"
"""The folder of the event files that `--tensorboard` writes."""
OWN = (RESULT, BEST, LAST, METRICS, TENSORBOARD, ROWS, CONFIG)
"""The files of a run. The result is removed first, so that no kill leaves a run that looks finished."""
SCRATCH = ".checkpoint.writing"
"""The folder in which a checkpoint is written, before it is moved to its final name."""


_SCORES = ("CF1", "OF1", "mAP", "exact_match")
"""The scores on val that every evaluation has."""

FACTS_KEY = "labeldep"
"""The key of a checkpoint's metadata that holds its facts. There is one key only: safetensors writes several in random
order."""


def facts_in_head(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, from the head of its file, without torch; empty if the file is missing or broken."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > path.stat().st_size:
                return {}
            return dict(json.loads(json.loads(file.read(length))["__metadata__"][FACTS_KEY]))
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return {}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """A run's evaluations, the records of its metrics.jsonl; empty if there is no such file.

    Raises:
        CheckpointError: the file cannot be read, or a line is not an evaluation; names the line.
    """
    path = folder / METRICS
    if not path.exists():
        return []
    remedy = "Take the line out, or train again from scratch: the same command with --fresh."
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", remedy) from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_evaluation(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}, line {number}, is no evaluation: {error}", remedy) from error
    return records


def _evaluation(record: Any) -> dict[str, Any]:  # noqa: ANN401 - what a line of JSON holds
    """A record of metrics.jsonl; ValueError if it is none: it has a step, numbers, and the scores on val."""
    if not isinstance(record, dict) or not isinstance(record.get("val"), dict):
        raise ValueError("it has no scores on val")
    step = record.get("step")
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        raise ValueError("its step is not a whole number")
    scores = {name: value for name, value in record["val"].items() if name != "decision"}
    for name, value in ({**record, **scores, "val": 0.0}).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{name} is not a number")
    if missing := [name for name in _SCORES if name not in scores]:
        raise ValueError(f"it has no {missing[0]} on val")
    return record
