"""What stands in a run's config.json and result.json."""

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
"""How runs read Eq. 1 that were trained before there was a choice, and say nothing of it."""


def read_config(folder: Path) -> dict[str, Any]:
    """A run's config.json.

    Raises:
        CheckpointError: missing or broken.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        return {name: config[name] for name in _RECORDED} | dict(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{folder / CONFIG} is missing or broken", "Train the run anew: the same command with --fresh."
        ) from error


def result_of(folder: Path) -> dict[str, Any] | None:
    """A finished run's result.json, None while it is not finished."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return {name: result[name] for name in ("steps", "best_step", "val")} | dict(result)
    except (ValueError, KeyError, TypeError):
        return None
