"""The config.json of a run that is about to be trained."""

from __future__ import annotations

import datetime
from dataclasses import fields
from pathlib import Path
from typing import Any

from labeldep_cli.compute.versions import versions
from labeldep_cli.config import PretrainConfig, Source, TrainingConfig
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.files import sha256
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.run import Run


def config_record(
    project: Project, config: TrainingConfig, start: Run | None, train: Inputs, cached_z: bool
) -> dict[str, Any]:
    """The run's config.json, its only file with paths and times. `cached_z`: D's features come from the cache."""
    source = {f.name: getattr(project.source, f.name) for f in fields(Source)}
    if not project.dataset.named:
        source["dataset"] = str(Path(project.source.dataset).absolute())
    source["weights"] = project.weights.spec if project.weights else project.source.weights
    weights = project.weights
    return {
        "command": "pretrain" if isinstance(config, PretrainConfig) else "adversarial",
        "settings": source | config.settings(),
        "views": train.n_views,
        "cached_z": cached_z,
        "blocks": train.blocks and train.blocks._asdict(),
        "steps": config.total_steps(-(-len(train.labels) // config.rows_per_batch)),
        "data_dir": str(project.workspace.data_dir.absolute()),
        "features_dir": str(project.workspace.features.absolute()),
        "dataset": {
            "name": project.dataset.name,
            "fingerprints": {name: project.dataset.splits[name].fingerprint for name in SPLITS},
        },
        "labels": list(project.dataset.space.names),
        "weights": weights and {"path": weights.path and str(weights.path), "sha256": _weights_sha256(project)},
        "start": start and {"run": str(start.folder.absolute()), "sha256": sha256(start.best)},
        "versions": versions(),
        "device": str(project.device),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds"),
    }


def _weights_sha256(project: Project) -> str | None:
    """The SHA-256 of the weights file; if it is not on this disk, the one that the feature store has recorded."""
    if project.weights is None:
        return None
    if project.weights.sha256 is not None:
        return project.weights.sha256
    cache = project.finished_cache("train")
    return project.backbone.weights_sha256 if cache is None else cache.store.kind.weights_sha256
