"""`labeldep pretrain` and `labeldep adversarial`: from inputs to a trained run."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labeldep_cli.config import (
    AdversarialConfig,
    Machine,
    PretrainConfig,
    Source,
    TrainingConfig,
    Workspace,
    changed,
    pick,
)
from labeldep_cli.datasets.split import SPLITS, Skipped
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import lock, make_folder, sha256, write_json
from labeldep_cli.inputs import Inputs
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator, seeded_head
from labeldep_cli.pipelines.project import Project, open_project
from labeldep_cli.pipelines.runs import CONFIG, Run, open_run, protocol_of, read_config, result_of
from labeldep_cli.progress import Reporter
from labeldep_cli.provenance import versions
from labeldep_cli.training.fit import BEST, LAST, METRICS, RESULT, Schedule, fit
from labeldep_cli.training.steps import AdversarialStep, LogisticStep, Step


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: of the run.
        result: its result.json: steps, best_step, val, thresholds, stopped_early.
        skipped: rows that training and validation left out.
        provenance: what the scores on val depend on.
    """

    folder: Path
    result: dict[str, Any]
    skipped: tuple[Skipped, ...]
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The keys of the contract."""
        return {
            "run": str(self.folder),
            **self.result,
            "skipped": [skip.to_json() for skip in self.skipped],
            "provenance": self.provenance,
        }


@dataclass(frozen=True)
class Job:
    """Where a run is written, and whether what stands there is dropped first."""

    out: Path | None = None
    fresh: bool = False


def pretrain(
    workspace: Workspace, source: Source, machine: Machine, config: PretrainConfig, job: Job, reporter: Reporter
) -> Trained:
    """Train G on the logistic loss (Sect. 3.2), extracting features first where they are missing.

    In full mode the head starts from the head-mode run of the same data set and backbone, where there is one.

    Raises:
        LabeldepError: data, weights, caches, disk or an existing run do not allow it; a loss that is not finite.
    """
    project = open_project(workspace, source, machine, reporter)
    if config.full:
        _ = project.images
    start = _existing(project, "pretrain") if config.full else None
    if start and config.hidden is not None and start.facts["hidden"] != config.hidden:
        start = None
    if config.full:
        config = replace(
            config, hidden=config.hidden if config.hidden is not None else (start.facts["hidden"] if start else 0)
        )
    return _train(project, config.resolved(), start, job)


def adversarial(
    workspace: Workspace,
    source: Source,
    machine: Machine,
    config: AdversarialConfig,
    start: str | None,
    job: Job,
    reporter: Reporter,
) -> Trained:
    """Train G and D in turn (Sects. 3.2, 3.3), from a pretrained run; extract and pretrain first where that is missing.

    `start` names the run to start from; None for the pretrain run of the same data set, backbone and mode.

    Raises:
        LabeldepError: as for `pretrain`; a start that does not fit.
    """
    project = open_project(workspace, source, machine, reporter)
    if config.full:
        _ = project.images
    stage = "full-pretrain" if config.full else "pretrain"
    run = open_run(start, workspace.runs_dir) if start else _existing(project, stage)
    if run is None:
        first = _first(project, stage, config)
        run = open_run(str(pretrain(workspace, source, machine, first, Job(), reporter).folder), workspace.runs_dir)
    if config.hidden not in (None, run.facts["hidden"]):
        raise CheckpointError(
            f"{run.folder} has --hidden {run.facts['hidden']}, asked for is {config.hidden}",
            "Leave --hidden out, or name a run with such a head: pretrain --hidden N --out FOLDER, then --from FOLDER",
        )
    return _train(project, replace(config, hidden=run.facts["hidden"]).resolved(), run, job)


def _existing(project: Project, stage: str) -> Run | None:
    """The finished run of a stage: what starts from an unfinished one would depend on where that was interrupted."""
    folder = _folder(project, stage)
    finished = result_of(folder) is not None and (folder / BEST).is_file()
    return open_run(str(folder), project.workspace.runs_dir) if finished else None


def _first(project: Project, stage: str, config: AdversarialConfig) -> PretrainConfig:
    """How to pretrain first: as an unfinished run was begun, else by default."""
    folder = _folder(project, stage)
    if (folder / CONFIG).exists():
        project.reporter.note(f"the pretrained run {folder} is unfinished: going on with it first")
        begun: PretrainConfig = pick(PretrainConfig, read_config(folder)["settings"])
        return begun
    project.reporter.note(f"no pretrained run {folder} yet: pretraining first")
    return PretrainConfig(full=config.full, hidden=config.hidden, views=config.views, seed=config.seed)


def _folder(project: Project, stage: str) -> Path:
    return project.workspace.runs_dir / f"{project.name}-{stage}"


def _train(project: Project, config: TrainingConfig, start: Run | None, job: Job) -> Trained:
    stage = f"full-{config.stage}" if config.full else config.stage
    folder = job.out or _folder(project, stage)
    if start is not None:
        _require_start(start, project, config.full, folder)
    make_folder(folder)
    with lock(folder / ".lock", str(folder)):
        train = project.inputs("train", config.full, config.views)
        val = project.inputs("val", config.full)
        if start is not None:
            _require_width(start, train)
        config = replace(config, views=train.n_views)
        record = _record(project, config, start, train)
        if job.fresh:
            _clear(folder)
        if not _claim(folder, record, project.reporter):
            _fit(project, config, start, train, val, record, folder)
        run = open_run(str(folder), project.workspace.runs_dir)
        provenance = protocol_of(run, project.dataset.split("val"), "step")
        return Trained(folder, result_of(folder) or {}, project.skipped(train, val), provenance)


def _fit(
    project: Project,
    config: TrainingConfig,
    start: Run | None,
    train: Inputs,
    val: Inputs,
    record: Mapping[str, Any],
    folder: Path,
) -> None:
    if start is not None:
        project.reporter.note(f"{'the head' if config.full and not start.full else 'G'} starts from {start.folder}")
    generator = _generator(project, config, start, train)
    step = _step(generator, train, config)
    facts = _facts(project, config, record, train)
    fit(step, generator, train, val, _schedule(config, train), folder, facts, project.reporter)


def _clear(folder: Path) -> None:
    for name in (RESULT, BEST, LAST, METRICS, CONFIG):
        (folder / name).unlink(missing_ok=True)


def _claim(folder: Path, record: dict[str, Any], reporter: Reporter) -> bool:
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
        if result_of(folder) is not None and (folder / BEST).is_file():
            reporter.note(f"{folder} is finished already; its result:")
            return True
    elif any((folder / name).exists() for name in (LAST, BEST)):
        raise CheckpointError(
            f"{folder} holds checkpoints but no {CONFIG}", "Train into another folder (--out), or drop them (--fresh)."
        )
    else:
        write_json(folder / CONFIG, record)
    return False


_PATHS = ("dataset", "weights")
"""Settings that are told apart by fingerprint: the same files under another path are the same."""


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same: settings and fingerprints, without paths, versions, device or clock."""
    settings = {
        f"--{name.replace('_', '-')}": value for name, value in record["settings"].items() if name not in _PATHS
    }
    weights, start = record["weights"], record["start"]
    return {
        **settings,
        "command": record["command"],
        "data set": record["dataset"]["name"],
        "rows": {name: value[:12] for name, value in record["dataset"]["fingerprints"].items()},
        "weights SHA-256": weights and str(weights["sha256"])[:12],
        "start": start and start["sha256"][:12],
    }


def _record(project: Project, config: TrainingConfig, start: Run | None, train: Inputs) -> dict[str, Any]:
    """The run's config.json: the one file with a path or a clock."""
    source = {f.name: getattr(project.source, f.name) for f in fields(Source)}
    if not project.dataset.named:
        source["dataset"] = str(Path(project.source.dataset).absolute())
    source["weights"] = project.weights.spec if project.weights else project.source.weights
    weights = project.weights
    return {
        "command": "pretrain" if isinstance(config, PretrainConfig) else "adversarial",
        "settings": source | config.settings(),
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
    return cache.origin.weights_sha256 if cache else project.backbone.weights_sha256


def _facts(project: Project, config: TrainingConfig, record: Mapping[str, Any], train: Inputs) -> dict[str, Any]:
    """What every checkpoint of the run says of itself."""
    return {
        "stage": config.stage,
        "full": config.full,
        "dataset": project.dataset.name,
        "rows": record["dataset"]["fingerprints"]["train"],
        "labels": record["labels"],
        "backbone": project.row and project.row.name,
        "weights_sha256": record["weights"] and record["weights"]["sha256"],
        "preprocessing": project.row and project.row.preprocessing,
        "feature_dim": train.feature_dim,
        "hidden": config.hidden,
        "seed": config.seed,
        "critic": _critic_shape(config),
    }


def _critic_shape(config: TrainingConfig) -> dict[str, Any] | None:
    if not isinstance(config, AdversarialConfig) or config.critic == "none":
        return None
    return {
        "layers": config.critic_layers,
        "width": config.critic_width,
        "projection": config.critic_projection,
        "slope": config.leaky_slope,
        "conditional": config.conditional,
    }


def _require_start(start: Run, project: Project, full: bool, folder: Path) -> None:
    """Refuse a start that does not fit, before anything is extracted: folder, labels, backbone, weights, mode.

    Raises:
        CheckpointError: names both sides.
    """
    if start.folder.resolve() == folder.resolve():
        raise CheckpointError(
            f"{folder} is the run to start from: what is trained there would overwrite it",
            "Name another folder: --out FOLDER",
        )
    start.space.require_same(project.dataset.space, f"the run {start.folder.name}", "the data set")
    mine = project.row and project.row.name
    if start.facts["backbone"] != mine:
        other = f", or use --backbone {start.facts['backbone']}" if start.facts["backbone"] and mine else ""
        raise CheckpointError(
            f"{start.folder} was trained on {start.facts['backbone'] or 'ready'} features, "
            f"but these are {mine or 'ready'} ones",
            f"Name a run on the same features with --from{other}.",
        )
    if project.weights is not None:
        start.require_weights(project.weights)
    if start.full and not full:
        raise CheckpointError(
            f"{start.folder} is a full-mode run, and this is head mode", "Add --full, or start from a head-mode run."
        )


def _require_width(start: Run, train: Inputs) -> None:
    """Refuse a start on features of another width.

    Raises:
        CheckpointError: names both.
    """
    if start.facts["feature_dim"] != train.feature_dim:
        raise CheckpointError(
            f"{start.folder} was trained on {start.facts['feature_dim']} features a row, "
            f"but these are {train.feature_dim}",
            "Name a run on the same features with --from.",
        )


def _generator(project: Project, config: TrainingConfig, start: Run | None, train: Inputs) -> Generator:
    """G as it begins: encoder and head from the start, from the frozen backbone, or fresh."""
    if start is not None and start.full:
        generator = start.generator(project.device)
        if isinstance(generator.encoder, Encoder):
            generator.encoder = generator.encoder.trainable_copy(config.train_bn)
        return generator
    head = (
        start.head()
        if start
        else seeded_head(train.feature_dim, len(train.space), int(config.hidden or 0), config.seed)
    )
    encoder = train.encoder.trainable_copy(config.train_bn) if isinstance(train.encoder, Encoder) else nn.Identity()
    return Generator(encoder, head).to(project.device)


def _step(generator: Generator, train: Inputs, config: TrainingConfig) -> Step:
    if not isinstance(config, AdversarialConfig):
        return LogisticStep(generator, train, config)
    if config.critic == "none":
        return LogisticStep(generator, train, config, weight=config.alpha)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        shape = _critic_shape(config) or {}
        critic = Discriminator(len(train.space), train.feature_dim, **shape).to(train.device)
    return AdversarialStep(generator, critic, train, config)


def _schedule(config: TrainingConfig, train: Inputs) -> Schedule:
    per_epoch = math.ceil(len(train.labels) / int(config.batch_size or 1))
    # A head's epoch may take milliseconds: then most of the time would go into evaluations and checkpoints.
    return Schedule(config.total_steps(per_epoch), per_epoch, config.patience, 1 if config.full else 50)
