"""The names of the files in a run's folder. This module does not import torch, so that runs can be listed quickly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIG = "config.json"
LAST = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
RESULT = "result.json"
LOCK = ".lock"
TENSORBOARD = "tensorboard"
"""The folder of the event files that `--tensorboard` writes."""
SCRATCH = ".checkpoint.writing"
"""The folder in which a checkpoint is written, before it is moved to its final name."""


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """A run's evaluations, the records of its metrics.jsonl; empty if there is no such file.

    Raises:
        OSError, ValueError: the file is broken.
    """
    if not (folder / METRICS).exists():
        return []
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
