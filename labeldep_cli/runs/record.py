"""Read a run's config.json and result.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from labeldep_cli.config import (
    LabelReduction,
)
from labeldep_cli.errors import CheckpointError
from labeldep_cli.runs.layout import CONFIG, RESULT

_RECORDED = ("command", "settings", "data_dir", "features_dir", "dataset", "labels", "weights", "start")

LABEL_REDUCTION_BEFORE: LabelReduction = "sum"
"""The reduction over labels in Eq. 1 of older runs, which did not record it."""


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json.

    Raises:
        CheckpointError: the file is missing or broken.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return {name: config[name] for name in _RECORDED} | dict(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} is missing or broken",
            "Train the run again from scratch: the same command with --fresh.",
        ) from error


def result_of(folder: Path) -> dict[str, Any] | None:
    """The result.json of a run; None if the run is not finished, or the file is broken."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return {name: result[name] for name in ("steps", "best_step", "val")} | dict(result)
    except (ValueError, KeyError, TypeError):
        return None
