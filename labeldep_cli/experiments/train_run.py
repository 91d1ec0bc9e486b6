"""From an open project to a trained run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from labeldep_cli.compute.distributed import World
from labeldep_cli.config import (
    DEFAULT_HEAD,
    AdversarialConfig,
    TrainingConfig,
)
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.experiments.critic_features import reads_cache, use_cached_z
from labeldep_cli.experiments.critic_influence import note_reach_after, note_share
from labeldep_cli.experiments.record import config_record
from labeldep_cli.experiments.requirements import (
    note_incomplete,
    note_small_val,
    require_decay,
    require_full_batches,
    require_loss,
    require_same_preprocessing,
    require_selection,
    require_start,
)
from labeldep_cli.experiments.start_rows import in_label_order, rows_to_record
from labeldep_cli.files import lock, make_folder
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.inputs.moments import moments_of
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.members import build_critic
from labeldep_cli.models.standardizing import Moments
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job, blocks_of, claim, clear_folder, existing_record
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.layout import LOCK
from labeldep_cli.runs.provenance import protocol_of
from labeldep_cli.runs.record import result_of
from labeldep_cli.runs.run import Run
from labeldep_cli.runs.tensorboard import RecordingReporter, require_tensorboard, write_missing_events
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.fit import Schedule, fit
from labeldep_cli.training.graphed_step import GraphedStep, with_graphs
from labeldep_cli.training.kernel_step import KernelStep
from labeldep_cli.training.steps import LogisticStep, Step


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: folder of the run.
        result: its result.json: steps, best_step, val, thresholds, stopped_early.
        skipped: rows that training and validation left out.
        provenance: what the scores on val depend on.
        images_read: whether this command read images; False if a finished cache was enough.
        select: which evaluation is kept, if G was trained.
    """

    folder: Path
    result: dict[str, Any]
    skipped: tuple[Skipped, ...]
    provenance: dict[str, Any]
    images_read: bool
    select: str

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `--json` prints."""
        return {
            "run": str(self.folder),
            **self.result,
            "skipped": [skip.to_json() for skip in self.skipped],
            "provenance": self.provenance,
        }


def default_folder(project: Project, config: TrainingConfig) -> Path:
    """A run's default folder: RUNS/DATASET-BACKBONE[-HEAD][-full]-STAGE[-foldK][-seedN]; for seed 0 without -seedN."""
    head = f"-{config.head}" if config.head not in (None, DEFAULT_HEAD) else ""
    full, seed = "-full" if config.full else "", f"-seed{config.seed}" if config.seed else ""
    fold = "" if project.source.fold is None else f"-fold{project.source.fold}"
    return project.workspace.runs_dir / f"{project.name}{head}{full}-{config.stage}{fold}{seed}"


def train_on(
    project: Project, config: TrainingConfig, start: Run | None, job: Job, images_read: bool = False
) -> Trained:
    """Train a run on an open project, or return it if it is finished already.

    Args:
        project: data, backbone and machine.
        config: settings, resolved.
        start: the run that it starts from; None for a new G.
        job: where and how the run is written.
        images_read: whether the command has read images before.

    Raises:
        LabeldepError: as for `pretrain`; a start that does not fit.
    """
    if job.tensorboard:
        require_tensorboard()
    require_loss(config)
    require_decay(config)
    require_selection(config)
    require_full_batches(config, project.world)
    folder = job.out or default_folder(project, config)
    if start is not None:
        project = in_label_order(project, start)
        require_start(start, project, config.full, folder)
    world = project.world
    make_folder(folder)
    with lock(folder / LOCK, str(folder)) if world.first else nullcontext():
        # A run continues with the views and the row order that it started with, even if the cache has more views now.
        existing = world.broadcast({} if job.fresh else existing_record(folder))
        views = config.views or existing.get("views")
        train, val = ensure_inputs_together(project, {"train": views, "val": 1}, config.full, blocks_of(existing))
        note_small_val(project, val)
        note_incomplete(config, train, project.reporter)
        note_reach_after(config, len(project.dataset.space), project.reporter)
        if start is not None:
            require_same_preprocessing(start, project, train)
        cached_z = world.broadcast(reads_cache(project, config, train, existing))
        record = config_record(project, config, start, train, cached_z)
        # A run goes on as it started: those of older versions did not standardise. Features of images stay as they are.
        record["standardized"] = existing.get("standardized", False) if existing else project.row is None
        if not _claimed(folder, record, job, project, start):
            use_cached_z(project, config, train, cached_z)
            reporter = project.reporter
            if job.tensorboard and world.first:
                reporter = RecordingReporter(reporter, folder)
            _fit(project, config, start, train, val, record, folder, reporter)
        elif job.tensorboard and world.first:
            write_missing_events(folder)
        run = open_run(str(folder), project.workspace.runs_dir)
        provenance = protocol_of(run, project.dataset.split("val"), "step")
        result = _result(folder, project, val)
        images_read = images_read or bool(project.images_read)
        return Trained(folder, result, project.skipped(train, val), provenance, images_read, config.selection)


def _claimed(folder: Path, record: dict[str, Any], job: Job, project: Project, start: Run | None) -> bool:
    """Reserve the folder for this run, in the first process only.

    Returns:
        Whether the run is finished already; the same in all processes.

    Raises:
        CheckpointError: the folder contains a run with other settings.
    """
    finished = False
    if project.world.first:
        if job.fresh:
            clear_folder(folder, job.keep, project.reporter)
        finished = claim(folder, record, project.reporter, lambda: rows_to_record(project, start))
    return project.world.broadcast(finished)


def _result(folder: Path, project: Project, val: Inputs) -> dict[str, Any]:
    """The run's result.json, with the keys of every evaluation added to its `val`."""
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
    reporter: Reporter,
) -> None:
    if start is not None:
        reporter.note(f"{'the head' if config.full and not start.full else 'G'} starts from {start.folder}")
    moments = moments_of(train) if record["standardized"] and _needs_moments(config, start) else None
    generator = _generator(project, config, start, train, moments)
    schedule = _schedule(config, train, record["steps"])
    facts = _facts(project, config, record, train)
    if isinstance(config, AdversarialConfig) and config.critic == "kernel":
        reporter.note("comparing the images with those of train")
        kernel = KernelStep.of(generator, train, config, schedule.steps, project.world)
        facts["critic"] = kernel.critic.shape
        _graphed(kernel, config, reporter)
        fit(kernel, generator, kernel.inputs, val, schedule, folder, facts, reporter, project.world)
        return
    step = _step(generator, train, config, moments, project.world)
    others = (val, schedule, folder, facts, reporter, project.world)
    graphed = _graphed(step, config, reporter)
    state = fit(graphed, generator, graphed.source, *others) if graphed else fit(step, generator, train, *others)
    note_share(state.history, reporter)


def _graphed(step: Step[Any], config: TrainingConfig, reporter: Reporter) -> GraphedStep | None:
    """The step with CUDA graphs, if they are asked for and possible; says why if they are not possible."""
    if not isinstance(config, AdversarialConfig) or not config.graphs:
        return None
    graphed = with_graphs(step)
    if isinstance(graphed, str):
        reporter.note(f"training without CUDA graphs: {graphed}")
        return None
    return graphed


def _facts(project: Project, config: TrainingConfig, record: Mapping[str, Any], train: Inputs) -> dict[str, Any]:
    """The facts that every checkpoint of the run stores."""
    return {
        "stage": config.stage,
        "full": config.full,
        "dataset": project.dataset.name,
        "labels": record["labels"],
        "backbone": project.row and project.row.name,
        **({"timm": project.row.timm.to_json()} if project.row and project.row.timm else {}),
        "weights_sha256": record["weights"] and record["weights"]["sha256"],
        "preprocessing": project.row and project.preprocessing,
        "compute_dtype": project.row and project.precision,
        "feature_dim": train.feature_dim,
        "head": config.head,
        "hidden": config.hidden,
        "seed": config.seed,
        "label_reduction": config.label_reduction,
        "critic": _critic_shape(config),
    }


def _critic_shape(config: TrainingConfig) -> dict[str, Any] | None:
    if not isinstance(config, AdversarialConfig) or config.critic in ("none", "kernel"):
        return None
    return config.critic_shape | ({"members": config.members} if config.members > 1 else {})


def _needs_moments(config: TrainingConfig, start: Run | None) -> bool:
    """Whether a network is new that is told how to standardise: a head, or a critic that is not a kernel machine."""
    return start is None or (isinstance(config, AdversarialConfig) and config.critic not in ("none", "kernel"))


def _generator(
    project: Project, config: TrainingConfig, start: Run | None, train: Inputs, moments: Moments | None
) -> Generator:
    """G before the first update: encoder and head of the run to start from; else the frozen backbone and a new head."""
    if start is not None and start.full:
        generator = start.generator(project.device)
        generator.encoder = _trainable(generator.encoder, config)
        return generator
    head = start.head() if start else _new_head(config, train, moments)
    return Generator(_trainable(train.encoder, config), head).to(project.device)


def _trainable(encoder: nn.Module, config: TrainingConfig) -> nn.Module:
    """G's encoder: a trainable copy of the frozen backbone, or the identity for features."""
    if not isinstance(encoder, Encoder | InferenceEncoder):
        return encoder
    return encoder.trainable_copy(config.train_bn, config.checkpoint_activations)


def _new_head(config: TrainingConfig, train: Inputs, moments: Moments | None) -> Head:
    kind = config.head or DEFAULT_HEAD
    head = seeded_head(kind, train.feature_dim, len(train.space), int(config.hidden or 0), config.seed)
    head.fit_to_labels(train.labels)
    if moments is not None:
        head.standardize_by(moments)
        head.start_from_shares(train.labels)
    return head


def _step(
    generator: Generator, train: Inputs, config: TrainingConfig, moments: Moments | None, world: World
) -> Step[Any]:
    if not isinstance(config, AdversarialConfig):
        return LogisticStep(generator, train, config, world=world)
    if config.critic == "none":
        return LogisticStep(generator, train, config, config.alpha, world)
    critic = build_critic(len(train.space), train.feature_dim, _critic_shape(config) or {}, config.seed)
    if moments is not None:
        critic.standardize_by(moments)
    return AdversarialStep(generator, critic.to(train.device), train, config, world)


def _schedule(config: TrainingConfig, train: Inputs, steps: int) -> Schedule:
    per_epoch = math.ceil(len(train.labels) / config.rows_per_batch)
    # In head mode an epoch may take milliseconds. Without a minimum, evaluations and checkpoints would take most time.
    return Schedule(steps, per_epoch, config.patience, 1 if config.full else 50, config.selection)
