"""A run's folder: whose it is, and what stands in its config.json."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from labeldep_cli.config import DEFAULT_HEAD, AdversarialConfig, PretrainConfig, Source, TrainingConfig, changed
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import sha256, write_json
from labeldep_cli.inputs import Blocks, Inputs
from labeldep_cli.pipelines.project import Project
from labeldep_cli.pipelines.runs import LABEL_REDUCTION_BEFORE, Run, read_config, result_of
from labeldep_cli.progress import Reporter
from labeldep_cli.provenance import versions
from labeldep_cli.run_files import BEST, CONFIG, LAST, METRICS, RESULT, TENSORBOARD
from labeldep_cli.training import checkpoint


@dataclass(frozen=True)
class Job:
    """Where a run is written, whether what stands there is dropped first, and whether TensorBoard's events are too.

    None of it tells runs apart.
    """

    out: Path | None = None
    fresh: bool = False
    tensorboard: bool = False


def clear(folder: Path) -> None:
    """Remove a run's files; the result first, so that a kill on the way leaves no run that looks finished."""
    for name in (RESULT, BEST, LAST, METRICS, CONFIG):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)


def claim(folder: Path, record: dict[str, Any], reporter: Reporter) -> bool:
    """Make a folder this run's own, or find that it is already.

    Returns:
        Whether the run is finished; if not, training is to begin or go on.

    Raises:
        CheckpointError: it holds a run of other settings; names them.
    """
    if (folder / CONFIG).exists():
        other = read_config(folder)
        differences = changed(_identity(record), _identity(other))
        if differences:
            raise CheckpointError(
                f"{folder} holds a run with other settings: {'; '.join(differences)}",
                "Train into another folder (--out FOLDER), or drop what is there (--fresh).",
            )
        if result_of(folder) is not None and checkpoint.read_facts(folder / BEST):
            reporter.note(f"{folder} is finished already; its result:")
            return True
    elif any((folder / name).exists() for name in (LAST, BEST)):
        raise CheckpointError(
            f"{folder} holds checkpoints but no {CONFIG}", "Train into another folder (--out), or drop them (--fresh)."
        )
    else:
        write_json(folder / CONFIG, record)
    return False


def begun(folder: Path) -> dict[str, Any]:
    """The record of the run in this folder, unfinished or finished; empty where there is none."""
    return read_config(folder) if (folder / CONFIG).exists() else {}


def blocks_of(record: Mapping[str, Any]) -> dict[str, Blocks]:
    """How the run of a record reads its training rows, by split; empty where it holds them all."""
    blocks = record.get("blocks")
    return {"train": Blocks(**blocks)} if blocks else {}


_LEFT_OUT = ("dataset", "weights", "checkpoint_activations")
"""Settings that do not tell runs apart. Data set and weights go by fingerprint: the same files under another path are
the same. No number depends on whether activations are kept: a run may go on the other way, where memory ran out."""


_BEFORE = {"label_reduction": LABEL_REDUCTION_BEFORE, "max_gradient_norm": 0.0}
"""What a run was trained with that knows nothing of these settings."""


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same: settings and fingerprints, without paths, versions, device or clock."""
    # A run of an older version knows nothing of a newer setting: it was trained with what is now its default, or not.
    known = {**AdversarialConfig(head=DEFAULT_HEAD).settings(), **_BEFORE, **record["settings"]}
    settings = {f"--{name.replace('_', '-')}": value for name, value in known.items() if name not in _LEFT_OUT}
    weights, start, blocks = record["weights"], record["start"], record.get("blocks")
    return {
        **settings,
        "command": record["command"],
        "row order (--max-memory)": Blocks(**blocks).told if blocks else "all rows at once",
        "data set": record["dataset"]["name"],
        "rows": {name: value[:12] for name, value in record["dataset"]["fingerprints"].items()},
        "weights SHA-256": weights and str(weights["sha256"])[:12],
        "start": start and start["sha256"][:12],
    }


def record_of(
    project: Project, config: TrainingConfig, start: Run | None, train: Inputs, cached_z: bool
) -> dict[str, Any]:
    """The run's config.json: the one file with a path or a clock. `cached_z`: D's features come from the cache."""
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
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _weights_sha256(project: Project) -> str | None:
    """Of the weights on disk, else the cache's own word."""
    if project.weights is None:
        return None
    if project.weights.sha256 is not None:
        return project.weights.sha256
    cache = project.finished_cache("train")
    return project.backbone.weights_sha256 if cache is None else cache.origin.weights_sha256
