"""`labeldep pretrain` and `labeldep adversarial`: from inputs to a trained run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labeldep_cli.config import (
    DEFAULT_HEAD,
    AdversarialConfig,
    ExtractConfig,
    Machine,
    PretrainConfig,
    Source,
    TrainingConfig,
    Workspace,
    pick,
)
from labeldep_cli.datasets.split import SPLITS, Skipped
from labeldep_cli.devices import enough_memory
from labeldep_cli.distributed import World
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.files import lock, make_folder
from labeldep_cli.inputs import Inputs
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.registry import HEADS, seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.pipelines.claims import Job, begun, blocks_of, claim, clear, record_of
from labeldep_cli.pipelines.critic_features import give_z, reads_cache
from labeldep_cli.pipelines.project import Project, open_project
from labeldep_cli.pipelines.runs import CONFIG, Run, open_run, protocol_of, read_config, result_of
from labeldep_cli.progress import Reporter
from labeldep_cli.training.fit import BEST, Schedule, fit
from labeldep_cli.training.steps import AdversarialStep, LogisticStep, Step


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: of the run.
        result: its result.json: steps, best_step, val, thresholds, stopped_early.
        skipped: rows that training and validation left out.
        provenance: what the scores on val depend on.
        looked: this command read images itself, rather than a finished cache alone.
        select: the score that chose its best evaluation, where G was trained.
    """

    folder: Path
    result: dict[str, Any]
    skipped: tuple[Skipped, ...]
    provenance: dict[str, Any]
    looked: bool
    select: str

    def to_json(self) -> dict[str, Any]:
        """The keys of the contract."""
        return {
            "run": str(self.folder),
            **self.result,
            "skipped": [skip.to_json() for skip in self.skipped],
            "provenance": self.provenance,
        }


def pretrain(
    workspace: Workspace, source: Source, machine: Machine, config: PretrainConfig, job: Job, reporter: Reporter
) -> Trained:
    """Train G on the logistic loss (Sect. 3.2), extracting features first where they are missing.

    In full mode the head starts from the head-mode run of the same data set and backbone, where there is one.

    Raises:
        LabeldepError: data, weights, caches, disk or an existing run do not allow it; a loss that is not finite.
    """
    project = open_project(workspace, source, machine, reporter).for_head(config.head or DEFAULT_HEAD)
    if config.full:
        _ = project.images
    start = _head_run(project, config) if config.full else None
    if start is not None:
        config = replace(config, hidden=start.facts["hidden"])
    return _train(project, config.resolved(), start, job)


def _head_run(project: Project, config: PretrainConfig) -> Run | None:
    """The head-mode run whose head full mode starts from; nobody asked for it, so one that does not fit is left."""
    run = _existing(project, replace(config, full=False))
    if run is None or config.hidden not in (None, run.facts["hidden"]):
        return None
    try:
        _require_start(run, project, config.full, _folder(project, config))
    except CheckpointError as error:
        project.reporter.note(f"the head starts afresh: {error.what}")
        return None
    return run


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
    before = PretrainConfig(
        full=config.full,
        head=config.head,
        hidden=config.hidden,
        views=config.views,
        accumulate=config.accumulate,
        checkpoint_activations=config.checkpoint_activations,
        seed=config.seed,
    )
    run = open_run(start, workspace.runs_dir) if start else _existing(project, before)
    looked = False
    if run is None:
        first = pretrain(workspace, source, machine, _first(project, before), Job(), reporter)
        run, looked = open_run(str(first.folder), workspace.runs_dir), first.looked
    _require_head(run, config)
    config = replace(config, head=run.head_kind, hidden=run.facts["hidden"])
    return _train(project.for_head(run.head_kind), config.resolved(), run, job, looked)


def _require_head(run: Run, config: AdversarialConfig) -> None:
    """Refuse a start with another head than the one asked for, or one that a critic in training cannot teach.

    Raises:
        CheckpointError: names both sides.
    """
    for name, asked, has in (("head", config.head, run.head_kind), ("hidden", config.hidden, run.facts["hidden"])):
        if asked not in (None, has):
            raise CheckpointError(
                f"{run.folder} has --{name} {has}, asked for is {asked}",
                f"Leave --{name} out, or name a run with such a head: "
                f"pretrain --{name} {asked} --out FOLDER, then --from FOLDER",
            )
    if HEADS[run.head_kind].sequential and config.critic != "none" and not config.freeze_generator:
        raise CheckpointError(
            f"{run.folder} has --head {run.head_kind}, which picks labels one after the other: "
            "no gradient of a critic flows through the set that it picks",
            "Train the critic beside it (--freeze-generator), or the control (--critic none).",
        )


def _existing(project: Project, config: TrainingConfig) -> Run | None:
    """The finished run in a config's default folder: what starts from an unfinished one hangs on its interruption."""
    folder = _folder(project, config)
    finished = result_of(folder) is not None and (folder / BEST).is_file()
    return open_run(str(folder), project.workspace.runs_dir) if finished else None


def _first(project: Project, config: PretrainConfig) -> PretrainConfig:
    """How to pretrain first: as an unfinished run was begun, else as asked for."""
    folder = _folder(project, config)
    if (folder / CONFIG).exists():
        project.reporter.note(f"the pretrained run {folder} is unfinished: going on with it first")
        begun: PretrainConfig = pick(PretrainConfig, read_config(folder)["settings"])
        return begun
    project.reporter.note(f"no pretrained run {folder} yet: pretraining first")
    return config


def _folder(project: Project, config: TrainingConfig) -> Path:
    """A run's default folder: RUNS/DATASET-BACKBONE[-HEAD][-full]-STAGE."""
    head = f"-{config.head}" if config.head not in (None, DEFAULT_HEAD) else ""
    return project.workspace.runs_dir / f"{project.name}{head}{'-full' if config.full else ''}-{config.stage}"


def _train(project: Project, config: TrainingConfig, start: Run | None, job: Job, looked: bool = False) -> Trained:
    _require_loss(config)
    _require_whole_batches(config, project.world)
    folder = job.out or _folder(project, config)
    if start is not None:
        _require_start(start, project, config.full, folder)
    world = project.world
    make_folder(folder)
    with lock(folder / ".lock", str(folder)) if world.first else nullcontext(), enough_memory():
        # A run goes on with the views that it began with, though the cache may hold more by now; and with its order.
        before = world.hear({} if job.fresh else begun(folder))
        views = config.views or before.get("views")
        train, val = project.held_together({"train": views, "val": 1}, config.full, blocks_of(before))
        if start is not None:
            _require_eyes(start, project, train)
        cached_z = world.hear(reads_cache(project, config, train, before))
        record = record_of(project, config, start, train, cached_z)
        if not _claimed(folder, record, job.fresh, project):
            give_z(project, config, train, cached_z)
            _fit(project, config, start, train, val, record, folder)
        run = open_run(str(folder), project.workspace.runs_dir)
        provenance = protocol_of(run, project.dataset.split("val"), "step")
        result = _result(folder, project, val)
        looked = looked or bool(project.looked)
        return Trained(folder, result, project.skipped(train, val), provenance, looked, config.select)


def _claimed(folder: Path, record: dict[str, Any], fresh: bool, project: Project) -> bool:
    """Make the folder this run's own; whether it is finished already. The first of several processes answers for all.

    Raises:
        CheckpointError: it holds a run of other settings.
    """
    finished = False
    if project.world.first:
        if fresh:
            clear(folder)
        finished = claim(folder, record, project.reporter)
    return project.world.hear(finished)


def _require_loss(config: TrainingConfig) -> None:
    """Refuse a loss of independent labels for a head that has its own.

    Raises:
        LabeldepError: names both.
    """
    if config.loss != TrainingConfig.loss and HEADS[config.head or DEFAULT_HEAD].sequential:
        raise LabeldepError(
            f"--head {config.head} is trained on its own loss, not on --loss {config.loss}", "Leave --loss out."
        )


def _require_whole_batches(config: TrainingConfig, world: World) -> None:
    """Refuse to take batch statistics of a part of a batch.

    Raises:
        LabeldepError: names the flag.
    """
    if config.train_bn and world.size > 1:
        raise LabeldepError(
            f"--train-bn would take each batch's statistics from its share in one of {world.size} processes",
            "Leave --train-bn out, or train in one process.",
        )


def _result(folder: Path, project: Project, val: Inputs) -> dict[str, Any]:
    """result.json, its `val` with the keys that every evaluation has."""
    result = result_of(folder) or {}
    skipped = [skip.to_json() for skip in val.skipped]
    return {**result, "val": {"dataset": project.dataset.name, "split": "val", **result["val"], "skipped": skipped}}


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
    step = _step(generator, train, config, project.world)
    facts = _facts(project, config, record, train)
    schedule = _schedule(config, train, record["steps"])
    fit(step, generator, train, val, schedule, folder, facts, project.reporter, project.world)


def _facts(project: Project, config: TrainingConfig, record: Mapping[str, Any], train: Inputs) -> dict[str, Any]:
    """What every checkpoint of the run says of itself."""
    return {
        "stage": config.stage,
        "full": config.full,
        "dataset": project.dataset.name,
        "labels": record["labels"],
        "backbone": project.row and project.row.name,
        "weights_sha256": record["weights"] and record["weights"]["sha256"],
        "preprocessing": project.row and project.preprocessing,
        "compute_dtype": project.row and project.precision,
        "feature_dim": train.feature_dim,
        "head": config.head,
        "hidden": config.hidden,
        "seed": config.seed,
        "critic": _critic_shape(config),
    }


def _critic_shape(config: TrainingConfig) -> dict[str, Any] | None:
    if not isinstance(config, AdversarialConfig) or config.critic == "none":
        return None
    return {
        "layers": config.critic_depth,
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
    _require_rows(start, project)
    if start.full and not full:
        raise CheckpointError(
            f"{start.folder} is a full-mode run, and this is head mode", "Add --full, or start from a head-mode run."
        )


def _require_rows(start: Run, project: Project) -> None:
    """Refuse a start that has seen other rows of the same data set: it may have been trained on what is test here.

    Raises:
        CheckpointError: names the split and both fingerprints.
    """
    theirs = start.config["dataset"]
    if theirs["name"] != project.dataset.name:
        return
    for name in SPLITS:
        mine = project.dataset.splits[name].fingerprint
        if theirs["fingerprints"][name] != mine:
            raise CheckpointError(
                f"{start.folder} was trained on another draw or another state of {project.dataset.name}: "
                f"its {name} rows are {theirs['fingerprints'][name][:12]}, here {mine[:12]}",
                "Take the same --split-seed, --val-fraction and --test-fraction, "
                "or pretrain on these rows (labeldep pretrain --out FOLDER) and start --from FOLDER.",
            )


def _require_eyes(start: Run, project: Project, train: Inputs) -> None:
    """Refuse a start on features of another width, or of images that were prepared in another way.

    Raises:
        CheckpointError: names both.
    """
    if project.row is not None and start.facts["preprocessing"] != project.preprocessing:
        raise CheckpointError(
            f"{start.folder} saw images through {start.facts['preprocessing']}, but here it is {project.preprocessing}",
            f"Run: {replace(project, asked=ExtractConfig(draft=not project.draft)).extract_command} --fresh",
        )
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
        generator.encoder = _trainable(generator.encoder, config)
        return generator
    head = start.head() if start else _fresh_head(config, train)
    return Generator(_trainable(train.encoder, config), head).to(project.device)


def _trainable(encoder: nn.Module, config: TrainingConfig) -> nn.Module:
    """G's own encoder: a copy of the frozen one that learns, or the identity over features."""
    if not isinstance(encoder, Encoder | InferenceEncoder):
        return encoder
    return encoder.trainable_copy(config.train_bn, config.checkpoint_activations)


def _fresh_head(config: TrainingConfig, train: Inputs) -> Head:
    kind = config.head or DEFAULT_HEAD
    head = seeded_head(kind, train.feature_dim, len(train.space), int(config.hidden or 0), config.seed)
    head.see_labels(train.labels)
    return head


def _step(generator: Generator, train: Inputs, config: TrainingConfig, world: World) -> Step:
    if not isinstance(config, AdversarialConfig):
        return LogisticStep(generator, train, config, world=world)
    if config.critic == "none":
        return LogisticStep(generator, train, config, config.alpha, world)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        shape = _critic_shape(config) or {}
        critic = Discriminator(len(train.space), train.feature_dim, **shape).to(train.device)
    return AdversarialStep(generator, critic, train, config, world)


def _schedule(config: TrainingConfig, train: Inputs, steps: int) -> Schedule:
    per_epoch = math.ceil(len(train.labels) / config.rows_per_batch)
    # A head's epoch may take milliseconds: then most of the time would go into evaluations and checkpoints.
    return Schedule(steps, per_epoch, config.patience, 1 if config.full else 50, config.select)
