"""Checks before a training run: loss and head, the run that it starts from, the number of processes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from labeldep_cli.compute.distributed import World
from labeldep_cli.config import DEFAULT_HEAD, FRAME, AdversarialConfig, ExtractConfig, TrainingConfig, flags_of
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.experiments.start_rows import require_rows
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.heads.registry import HEADS
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.layout import CONFIG
from labeldep_cli.runs.run import Run


def require_loss(config: TrainingConfig) -> None:
    """Refuse a loss of independent labels for a head that has its own loss.

    Raises:
        LabeldepError: names both.
    """
    if config.loss != TrainingConfig.loss and HEADS[config.head or DEFAULT_HEAD].own_loss is not None:
        raise LabeldepError(
            f"--head {config.head} is trained on its own loss, not on --loss {config.loss}", "Leave --loss out."
        )


def require_selection(config: TrainingConfig) -> None:
    """Refuse to choose among the evaluations of a kernel critic: G's scores, which would choose, never change.

    Raises:
        LabeldepError: names the flag.
    """
    if isinstance(config, AdversarialConfig) and config.critic == "kernel":
        flag = "--patience" if config.patience else f"--select {config.select}"
        if config.patience or config.select not in (None, "last"):
            raise LabeldepError(
                f"--critic kernel keeps its last evaluation: with {flag} G's scores would choose, which never change",
                f"Leave {flag.split()[0]} out.",
            )


def require_decay(config: TrainingConfig) -> None:
    """Refuse a weight decay that would turn the sign of weights: an update multiplies them by 1 - lr * decay.

    Raises:
        LabeldepError: names both.
    """
    rates = [("lr", config.learning_rate, "weight-decay", config.weight_decay)]
    if isinstance(config, AdversarialConfig) and config.critic not in ("none", "kernel"):  # a kernel's is no such decay
        rates.append(("critic-lr", config.critic_learning_rate, "critic-weight-decay", config.critic_decay))
    for rate, lr, name, decay in rates:
        if lr * decay >= 1:
            raise LabeldepError(
                f"--{name} {decay:g} with --{rate} {lr:g} multiplies weights by {1 - lr * decay:g} at each update",
                f"Take less than {1 / lr:g}.",
            )


SMALL_VAL = 100
"""Below this number of images, a single image is more than one point of exact match."""


def note_small_val(project: Project, val: Inputs) -> None:
    """Warn that few val images make a poor choice, and name a remedy."""
    if len(val.labels) < SMALL_VAL:
        drawn = "val" in project.dataset.drawn
        more = f"hold out more: --val-fraction (now {project.source.val_fraction:g})" if drawn else "add rows to it"
        project.reporter.note(
            f"val has only {len(val.labels)} images: the best evaluation and the thresholds that are chosen on it are "
            f"largely random; {more}"
        )


def note_incomplete(config: TrainingConfig, train: Inputs, reporter: Reporter) -> None:
    """Say that the sets of rows with unknown labels are not listed, where a head or a critic makes such a list."""
    lists = config.head == "powerset" or (isinstance(config, AdversarialConfig) and config.critic == "kernel")
    complete = int((train.labels >= 0).all(dim=1).sum())
    if lists and 0 < complete < len(train.labels):
        reporter.note(
            f"{complete} of {len(train.labels)} training rows have all labels known: only their label sets are listed, "
            "and a set that is not listed is rarely decided on"
        )


def require_full_batches(config: TrainingConfig, world: World) -> None:
    """Refuse batch normalisation in training mode if several processes share a batch.

    Raises:
        LabeldepError: names the flag.
    """
    if config.train_bn and world.size > 1:
        raise LabeldepError(
            f"--train-bn would take each batch's statistics from its share in one of {world.size} processes",
            "Leave --train-bn out, or train in one process.",
        )


def require_head(run: Run, config: AdversarialConfig) -> None:
    """Refuse to start from a run whose head is not the requested one, or cannot be trained by a critic.

    Raises:
        CheckpointError: names both sides.
    """
    for name, requested, has in (("head", config.head, run.head_kind), ("hidden", config.hidden, run.facts["hidden"])):
        if requested not in (None, has):
            raise CheckpointError(
                f"{run.folder} has --{name} {has}, but --{name} {requested} is requested",
                f"Leave --{name} out, or name a run with such a head: "
                f"pretrain --{name} {requested} --out FOLDER, then --from FOLDER",
            )
    head = HEADS[run.head_kind]
    if config.critic == "none" or head.own_loss is None:
        return
    how = "is a distribution over whole sets" if head.joint else "picks labels one after the other"
    if not config.freeze_generator:
        raise CheckpointError(
            f"{run.folder} has --head {run.head_kind}, which {how}: "
            "no gradient of a critic flows through the set that it picks",
            "Train the critic alone (--critic kernel, or --critic nce --freeze-generator), or the control "
            "(--critic none).",
        )
    if head.joint and config.critic == "wgan-gp":
        raise CheckpointError(
            f"{run.folder} has --head {run.head_kind}, which {how}: "
            "the critic wgan-gp compares soft sets of independent labels",
            "Train a density ratio: --critic nce --freeze-generator",
        )


def require_start(start: Run, project: Project, full: bool, folder: Path) -> None:
    """Refuse to start from a run that does not fit (folder, labels, backbone, frame, weights, mode), before extraction.

    Raises:
        CheckpointError: names both sides.
    """
    if start.folder.resolve() == folder.resolve():
        raise CheckpointError(
            f"{folder} is the run to start from: what is trained there would overwrite it",
            "Name another folder: --out FOLDER",
        )
    start.space.require_same(project.dataset.space, f"the run {start.folder.name}", "the data set")
    backbone = project.row and project.row.name
    if start.facts["backbone"] != backbone:
        other = f", or use --backbone {start.facts['backbone']}" if start.facts["backbone"] and backbone else ""
        raise CheckpointError(
            f"{start.folder} was trained on {start.facts['backbone'] or 'ready'} features, "
            f"but these are {backbone or 'ready'} ones",
            f"Name a run on the same features with --from{other}.",
        )
    if project.row is not None and start.row.framing != project.row.framing:
        flags = shlex.join(flags_of(start.source(), FRAME)) or "leave --image-size and --resize out"
        raise CheckpointError(
            f"{start.folder} was trained on images framed by {start.row.framing.words}, "
            f"but these are by {project.row.framing.words}",
            f"Take the same images ({flags}), or name a run on such images with --from.",
        )
    if project.weights is not None:
        start.require_weights(project.weights)
    require_rows(start, project, full)
    if start.full and not full:
        raise CheckpointError(
            f"{start.folder} is a full-mode run, and this is head mode", "Add --full, or start from a head-mode run."
        )


def _remedy(start: Run, project: Project) -> str:
    """How to make the preprocessing of a project that of a run; a run of an older version has another one for good."""
    likewise = replace(project.source, value_range=start.rules.value_range, background=start.rules.background)
    changed = replace(project, source=likewise, extraction=ExtractConfig.of(start.jpegs))
    if changed.images[0].preprocessing(start.rules, start.jpegs) == start.facts["preprocessing"]:
        return f"Run: {changed.extract_command} --fresh"
    words = ["labeldep", start.config["command"], "--config", str(start.folder / CONFIG), "--fresh"]
    return f"An older version has trained it: train it again.\n{shlex.join(words)}"


def require_same_preprocessing(start: Run, project: Project, train: Inputs) -> None:
    """Refuse to start from a run with features of another width, or of images with other preprocessing.

    Raises:
        CheckpointError: names both.
    """
    if project.row is not None and start.facts["preprocessing"] != project.preprocessing:
        raise CheckpointError(
            f"the images of {start.folder} were preprocessed by {start.facts['preprocessing']}, "
            f"but here by {project.preprocessing}",
            _remedy(start, project),
        )
    if start.facts["feature_dim"] != train.feature_dim:
        raise CheckpointError(
            f"{start.folder} was trained on {start.facts['feature_dim']} features a row, "
            f"but these are {train.feature_dim}",
            "Name a run on the same features with --from.",
        )
