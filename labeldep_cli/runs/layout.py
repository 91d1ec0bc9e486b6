"""What lies in a run's folder, by name; known without torch, so that runs can be listed at once."""

from __future__ import annotations

import json
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
"""The folder of the events that `--tensorboard` writes."""
SCRATCH = ".checkpoint.writing"
"""The folder that a checkpoint is written in, beside its name to be."""


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """A run's evaluations, the records of its metrics.jsonl; none where there is no such file.

    Raises:
        OSError, ValueError: the file is broken.
    """
    if not (folder / METRICS).exists():
        return []
    return [json.loads(line) for line in (folder / METRICS).read_text(encoding="utf-8").splitlines()]
