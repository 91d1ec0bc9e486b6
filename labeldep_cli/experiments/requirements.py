"""Checks before a training run: loss and head, the run that it starts from, the number of processes."""

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
from labeldep_cli.runs.changes import changes, find_leak, in_words, same_dataset
from labeldep_cli.runs.rows import Rows, read_rows
from labeldep_cli.runs.run import Run


def require_loss(config: TrainingConfig) -> None:
    """Refuse a loss of independent labels for a head that has its own loss.

    Raises:
        LabeldepError: names both.
    """
    if config.loss != TrainingConfig.loss and HEADS[config.head or DEFAULT_HEAD].sequential:
        raise LabeldepError(
            f"--head {config.head} is trained on its own loss, not on --loss {config.loss}", "Leave --loss out."
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
    if HEADS[run.head_kind].sequential and config.critic != "none" and not config.freeze_generator:
        raise CheckpointError(
            f"{run.folder} has --head {run.head_kind}, which picks labels one after the other: "
            "no gradient of a critic flows through the set that it picks",
            "Train the critic alone (--freeze-generator), or the control (--critic none).",
        )


def require_start(start: Run, project: Project, full: bool, folder: Path) -> None:
    """Refuse to start from a run that does not fit (folder, labels, backbone, weights, mode), before any extraction.

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
    if project.weights is not None:
        start.require_weights(project.weights)
    _require_rows(start, project)
    if start.full and not full:
        raise CheckpointError(
            f"{start.folder} is a full-mode run, and this is head mode", "Add --full, or start from a head-mode run."
        )


def _require_rows(start: Run, project: Project) -> None:
    """Refuse a run that was trained on rows that are val or test here; report other changes of rows or labels.

    Raises:
        CheckpointError: names the split, the number of such rows and one of them.
    """
    trained, now = read_rows(start.folder), Rows.of(project.dataset)
    if trained is None:
        _note_unknown_rows(start, project)
        return
    for name in SPLITS[1:]:
        leak = find_leak(trained, now, project.dataset, name)
        if leak is None:
            continue
        what = f"{leak.rows:,} of the {leak.of:,} rows that are {name} here"
        if not leak.certain:
            project.reporter.note(
                f"{start.folder} was trained on {what}, if the same names are the same images; "
                f"for example {leak.example!r}"
            )
            continue
        raise CheckpointError(
            f"{start.folder} was trained on another draw or another state of {project.dataset.name}: "
            f"it was trained on {what}, such as {leak.example!r}",
            "Take the same --split-seed, --val-fraction and --test-fraction, "
            "or pretrain on these rows (labeldep pretrain --out FOLDER) and start --from FOLDER.",
        )
    if same_dataset(trained, now) and (words := in_words(changes(trained, now))):
        project.reporter.note(f"{project.dataset.name} has changed since {start.folder} was trained: {words}")


def _note_unknown_rows(start: Run, project: Project) -> None:
    """Report that a run of an older version, without stored rows, may have been trained on val or test rows."""
    recorded, splits = start.config["dataset"], project.dataset.splits
    if recorded["name"] != project.dataset.name:
        return
    changed = [name for name in SPLITS if recorded["fingerprints"][name] != splits[name].fingerprint]
    if changed:
        project.reporter.note(
            f"{start.folder} does not say which rows it was trained on, as runs of older versions do not, and "
            f"{', '.join(changed)} of {project.dataset.name} {'has' if len(changed) == 1 else 'have'} changed since: "
            "it may have been trained on rows that are val or test here"
        )


def require_same_preprocessing(start: Run, project: Project, train: Inputs) -> None:
    """Refuse to start from a run with features of another width, or of images with other preprocessing.

    Raises:
        CheckpointError: names both.
    """
    if project.row is not None and start.facts["preprocessing"] != project.preprocessing:
        raise CheckpointError(
            f"the images of {start.folder} were preprocessed by {start.facts['preprocessing']}, "
            f"but here by {project.preprocessing}",
            f"Run: {replace(project, extraction=ExtractConfig(draft=not project.draft)).extract_command} --fresh",
        )
    if start.facts["feature_dim"] != train.feature_dim:
        raise CheckpointError(
            f"{start.folder} was trained on {start.facts['feature_dim']} features a row, "
            f"but these are {train.feature_dim}",
            "Name a run on the same features with --from.",
        )
