"""What a training run must fit: loss and head, the run that it starts from, the processes that share it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labeldep_cli.compute.distributed import World
from labeldep_cli.config import DEFAULT_HEAD, AdversarialConfig, ExtractConfig, TrainingConfig
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.heads.registry import HEADS
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.run import Run


def require_loss(config: TrainingConfig) -> None:
    """Refuse a loss of independent labels for a head that has its own.

    Raises:
        LabeldepError: names both.
    """
    if config.loss != TrainingConfig.loss and HEADS[config.head or DEFAULT_HEAD].sequential:
        raise LabeldepError(
            f"--head {config.head} is trained on its own loss, not on --loss {config.loss}", "Leave --loss out."
        )


SMALL_VAL = 100
"""Images below which one of them is more than a point of exact match."""


def note_small_val(project: Project, val: Inputs) -> None:
    """Say that little is chosen well on few images, and how to have more."""
    if len(val.labels) < SMALL_VAL:
        drawn = "val" in project.dataset.drawn
        more = f"hold out more: --val-fraction (now {project.source.val_fraction:g})" if drawn else "add rows to it"
        project.reporter.note(
            f"val has only {len(val.labels)} images: the best evaluation and the thresholds that are chosen on it are "
            f"largely chance; {more}"
        )


def require_full_batches(config: TrainingConfig, world: World) -> None:
    """Refuse to take batch statistics of a part of a batch.

    Raises:
        LabeldepError: names the flag.
    """
    if config.train_bn and world.size > 1:
        raise LabeldepError(
            f"--train-bn would take each batch's statistics from its share in one of {world.size} processes",
            "Leave --train-bn out, or train in one process.",
        )


def require_head(run: Run, config: AdversarialConfig) -> None:
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


def require_start(start: Run, project: Project, full: bool, folder: Path) -> None:
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


def require_same_preprocessing(start: Run, project: Project, train: Inputs) -> None:
    """Refuse a start on features of another width, or of images that were prepared in another way.

    Raises:
        CheckpointError: names both.
    """
    if project.row is not None and start.facts["preprocessing"] != project.preprocessing:
        raise CheckpointError(
            f"{start.folder} saw images through {start.facts['preprocessing']}, but here it is {project.preprocessing}",
            f"Run: {replace(project, extraction=ExtractConfig(draft=not project.draft)).extract_command} --fresh",
        )
    if start.facts["feature_dim"] != train.feature_dim:
        raise CheckpointError(
            f"{start.folder} was trained on {start.facts['feature_dim']} features a row, "
            f"but these are {train.feature_dim}",
            "Name a run on the same features with --from.",
        )
