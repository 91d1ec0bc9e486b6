"""The names of the files in a run's folder. This module does not import torch, so that runs can be listed quickly."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

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
            return dict(json.loads(json.loads(file.read(length))["__metadata__"][FACTS_KEY]))
    except (OSError, struct.error, ValueError, KeyError, TypeError):
        return {}


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """A run's evaluations, the records of its metrics.jsonl; empty if there is no such file.

    Raises:
        OSError, ValueError: the file is broken.
    """
    if not (folder / METRICS).exists():
        return []
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
