"""reproduce.json: what was asked in a folder, so that the same command goes on and another one is refused."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from labeldep_cli.compute.versions import versions
from labeldep_cli.config import ReproduceConfig, changed
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import write_json
from labeldep_cli.projects.project import Project

RECORD = "reproduce.json"

_ROWS = ("tables", "backbones", "seeds", "rivals", "companions", "test_time")
"""Of the settings, those that say which rows are made."""


def claim(out: Path, config: ReproduceConfig, project: Project) -> None:
    """Make a folder this matrix's own, or find that it is already.

    Settings that change a run must be the same. Which rows are made may differ: more seeds, backbones or tables join
    the runs that are there.

    Args:
        out: the folder.
        config: rows and settings.
        project: data set and first backbone.

    Raises:
        CheckpointError: it was begun with other settings; names them.
    """
    settings, path = _settings(config, project), out / RECORD
    begun = _read(path)
    differences = changed(settings, begun["settings"]) if begun else []
    if differences:
        raise CheckpointError(
            f"{out} was begun with other settings: {'; '.join(differences)}",
            "Take those settings, name another folder (--out FOLDER), or remove this one.",
        )
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rows = {name: getattr(config, name) for name in _ROWS}
    record = {"settings": settings, "rows": rows, "versions": versions(), "started": begun.get("started", now)}
    if json.loads(json.dumps(record)) != begun:
        write_json(path, record)


def _settings(config: ReproduceConfig, project: Project) -> dict[str, Any]:
    source, splits = project.source, project.dataset.splits
    own = {name: getattr(source, name) for name in ("val_fraction", "test_fraction", "split_seed")}
    return {f"--{name.replace('_', '-')}": value for name, value in {**config.training, **own}.items()} | {
        "data set": project.dataset.name,
        "rows": {name: splits[name].fingerprint[:12] for name in SPLITS},
    }


def _read(path: Path) -> dict[str, Any]:
    """The record; empty where there is none.

    Raises:
        CheckpointError: it is broken.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {name: record[name] for name in ("settings", "rows", "versions", "started")}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is broken", "Remove it: the runs beside it know their own settings.") from error
