"""The names of the files in a run's folder. This module does not import torch, so that runs can be listed quickly."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from labeldep_cli.errors import CheckpointError
from labeldep_cli.runs.facts import Marked
from labeldep_cli.runs.schemas import evaluation_of
from labeldep_cli.schemas import conform, parse_json

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
            return sound_facts(parse_json(file.read(length))["__metadata__"])
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return {}


def facts_of(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """The facts in a checkpoint's metadata.

    Raises:
        KeyError, ValueError, TypeError: there are none.
    """
    return dict(parse_json((metadata or {})[FACTS_KEY]))


def sound_facts(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """`facts_of`, with `Marked` checked too."""
    facts = facts_of(metadata)
    conform(facts, Marked)
    return facts


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
            records.append(evaluation_of(parse_json(line)))
        except ValueError as error:
            raise CheckpointError(f"{path}, line {number}, is no evaluation: {error}", remedy) from error
    return records
