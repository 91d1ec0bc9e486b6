"""reproduce.json: the settings used in a folder. The same command continues there; other settings are refused.

It has no times: the same command, killed or not, writes the same bytes. Each run records its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypedDict

from labeldep_cli.compute.versions import versions
from labeldep_cli.config import ReproduceConfig, changed
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import write_json
from labeldep_cli.projects.project import Project
from labeldep_cli.schemas import conform, parse_json

RECORD = "reproduce.json"

_ROWS = ("tables", "backbones", "seeds", "rivals", "companions", "test_time")
"""The settings that decide which rows are made."""


class _Record(TypedDict):
    settings: dict[str, Any]
    rows: dict[str, Any]
    versions: dict[str, Any]


def claim(out: Path, config: ReproduceConfig, project: Project) -> None:
    """Record a matrix in its folder, or check that the folder has the same settings.

    Settings that change a run must be the same. The rows may differ: more seeds, backbones or tables are added to the
    existing runs.

    Args:
        out: the folder.
        config: rows and settings.
        project: data set and first backbone.

    Raises:
        CheckpointError: the folder was begun with other settings; the error names them.
    """
    settings, path = _settings(config, project), out / RECORD
    recorded = _read(path)
    differences = changed(settings, recorded["settings"]) if recorded else []
    if differences:
        raise CheckpointError(
            f"{out} was begun with other settings: {'; '.join(differences)}",
            "Take those settings, name another folder (--out FOLDER), or remove this one.",
        )
    rows = {name: getattr(config, name) for name in _ROWS}
    record = {"settings": settings, "rows": rows, "versions": versions()}
    if json.loads(json.dumps(record)) != recorded:
        write_json(path, record)


def _settings(config: ReproduceConfig, project: Project) -> dict[str, Any]:
    source, splits = project.source, project.dataset.splits
    drawing = {name: getattr(source, name) for name in ("val_fraction", "test_fraction", "split_seed")}
    return {f"--{name.replace('_', '-')}": value for name, value in {**config.training, **drawing}.items()} | {
        "data set": project.dataset.name,
        "rows": {name: splits[name].fingerprint[:12] for name in SPLITS},
    }


def _read(path: Path) -> dict[str, Any]:
    """The record; empty if there is none.

    Raises:
        CheckpointError: the record is broken.
    """
    try:
        record = parse_json(path.read_text(encoding="utf-8"))
        return dict(conform(record, _Record))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is broken: {error}", "Remove it: the runs in the folder have records of their own."
        ) from error
