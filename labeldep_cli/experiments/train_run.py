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
from labeldep_cli.experiments.critic_features import give_z, reads_cache
from labeldep_cli.experiments.critic_influence import note_reach_after, note_share
from labeldep_cli.experiments.record import config_record
from labeldep_cli.experiments.requirements import (
    note_small_val,
    require_full_batches,
    require_loss,
    require_same_preprocessing,
    require_start,
)
from labeldep_cli.files import lock, make_folder
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job, begun, blocks_of, claim, make_way
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.layout import LOCK
from labeldep_cli.runs.provenance import protocol_of
from labeldep_cli.runs.record import result_of
from labeldep_cli.runs.run import Run
from labeldep_cli.runs.tensorboard import Recorded, make_up, require_tensorboard
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.fit import Schedule, fit
from labeldep_cli.training.steps import LogisticStep, Step


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        folder: of the run.
        result: its result.json: steps, best_step, val, thresholds, stopped_early.
        skipped: rows that training and validation left out.
        provenance: what the scores on val depend on.
        images_read: this command read images itself, rather than a finished cache alone.
        select: which evaluation it keeps, where G was trained.
    """

    folder: Path
    result: dict[str, Any]
    skipped: tuple[Skipped, ...]
    provenance: dict[str, Any]
    images_read: bool
    select: str

    def to_json(self) -> dict[str, Any]:
        """The keys of the contract."""
        return {
            "run": str(self.folder),
            **self.result,
            "skipped": [skip.to_json() for skip in self.skipped],
            "provenance": self.provenance,
        }


def default_folder(project: Project, config: TrainingConfig) -> Path:
    """A run's default folder: RUNS/DATASET-BACKBONE[-HEAD][-full]-STAGE[-seedN]; seed 0 has no end of its own."""
    head = f"-{config.head}" if config.head not in (None, DEFAULT_HEAD) else ""
    full, seed = "-full" if config.full else "", f"-seed{config.seed}" if config.seed else ""
    return project.workspace.runs_dir / f"{project.name}{head}{full}-{config.stage}{seed}"


def train_on(
    project: Project, config: TrainingConfig, start: Run | None, job: Job, images_read: bool = False
) -> Trained:
    """Train a run on an open project, or find it finished.

    Args:
        project: data, backbone and machine.
        config: resolved.
        start: the run that it starts from; None for a fresh G.
        job: where it is written.
        images_read: images were read on the way here.

    Raises:
        LabeldepError: as for `pretrain`; a start that does not fit.
    """
    if job.tensorboard:
        require_tensorboard()
    require_loss(config)
    require_full_batches(config, project.world)
    folder = job.out or default_folder(project, config)
    if start is not None:
        require_start(start, project, config.full, folder)
    world = project.world
    make_folder(folder)
    with lock(folder / LOCK, str(folder)) if world.first else nullcontext():
        # A run goes on with the views that it began with, though the cache may hold more by now; and with its order.
        before = world.broadcast({} if job.fresh else begun(folder))
        views = config.views or before.get("views")
        train, val = ensure_inputs_together(project, {"train": views, "val": 1}, config.full, blocks_of(before))
        note_small_val(project, val)
        note_reach_after(config, len(project.dataset.space), project.reporter)
        if start is not None:
            require_same_preprocessing(start, project, train)
        cached_z = world.broadcast(reads_cache(project, config, train, before))
        record = config_record(project, config, start, train, cached_z)
        if not _claimed(folder, record, job, project):
            give_z(project, config, train, cached_z)
            reporter = Recorded(project.reporter, folder) if job.tensorboard and world.first else project.reporter
            _fit(project, config, start, train, val, record, folder, reporter)
        elif job.tensorboard and world.first:
            make_up(folder)
        run = open_run(str(folder), project.workspace.runs_dir)
        provenance = protocol_of(run, project.dataset.split("val"), "step")
        result = _result(folder, project, val)
        images_read = images_read or bool(project.images_read)
        return Trained(folder, result, project.skipped(train, val), provenance, images_read, config.selection)


def _claimed(folder: Path, record: dict[str, Any], job: Job, project: Project) -> bool:
    """Make the folder this run's own; whether it is finished already. The first of several processes answers for all.

    Raises:
        CheckpointError: it holds a run of other settings.
    """
    finished = False
    if project.world.first:
        if job.fresh:
            make_way(folder, job.keep, project.reporter)
        finished = claim(folder, record, project.reporter, project.dataset)
    return project.world.broadcast(finished)


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
    reporter: Reporter,
) -> None:
    if start is not None:
        reporter.note(f"{'the head' if config.full and not start.full else 'G'} starts from {start.folder}")
    generator = _generator(project, config, start, train)
    step = _step(generator, train, config, project.world)
    facts = _facts(project, config, record, train)
    schedule = _schedule(config, train, record["steps"])
    state = fit(step, generator, train, val, schedule, folder, facts, reporter, project.world)
    note_share(state.history, reporter)


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
        "label_reduction": config.label_reduction,
        "critic": _critic_shape(config),
    }


def _critic_shape(config: TrainingConfig) -> dict[str, Any] | None:
    if not isinstance(config, AdversarialConfig) or config.critic == "none":
        return None
    return config.critic_shape


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
    head.fit_to_labels(train.labels)
    return head


def _step(generator: Generator, train: Inputs, config: TrainingConfig, world: World) -> Step:
    if not isinstance(config, AdversarialConfig):
        return LogisticStep(generator, train, config, world=world)
    if config.critic == "none":
        return LogisticStep(generator, train, config, config.alpha, world)
    critic = seeded_critic(len(train.space), train.feature_dim, config.critic_shape, config.seed).to(train.device)
    return AdversarialStep(generator, critic, train, config, world)


def _schedule(config: TrainingConfig, train: Inputs, steps: int) -> Schedule:
    per_epoch = math.ceil(len(train.labels) / config.rows_per_batch)
    # A head's epoch may take milliseconds: then most of the time would go into evaluations and checkpoints.
    return Schedule(steps, per_epoch, config.patience, 1 if config.full else 50, config.selection)
