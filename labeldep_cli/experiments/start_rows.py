"""The rows and labels of a data set, compared with those of the run that training starts from."""

from __future__ import annotations

import shlex
from dataclasses import replace

import numpy as np

from labeldep_cli.config import BACKBONE, READING, TrainingConfig, flags_of
from labeldep_cli.datasets.alignment import aligned
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import counted
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.rows import identify_images, rows_of
from labeldep_cli.runs.changes import changed_splits, changes, in_words, same_dataset, trained_on
from labeldep_cli.runs.rows import NO_ROWS, Rows, read_rows
from labeldep_cli.runs.run import Run


def rows_to_record(project: Project, start: Run | None) -> Rows:
    """The rows that a run is trained on, and those that it inherits from the run that it starts from."""
    now = rows_of(project)
    if start is None:
        return now
    trained = read_rows(start.folder)
    if trained is None:
        return replace(now, inherits_unknown=bool(changed_splits(start.config, project.dataset)))
    inherited = trained.trained_only()
    inherited = inherited[~inherited.among(now.splits["train"].ids)]
    return replace(now, inherited=inherited, inherits_unknown=trained.inherits_unknown)


def in_label_order(project: Project, start: Run) -> Project:
    """The project with its labels in the order of the run to start from, if both have the same labels."""
    names, order = project.dataset.space.names, start.space
    if names == order.names or sorted(names) != sorted(order.names):
        return project
    project.reporter.note(f"the labels of {project.dataset.name} are taken in the order of {start.folder}")
    return replace(project, dataset=aligned(project.dataset, order, f"the run {start.folder.name}")[0])


def require_rows(start: Run, project: Project, full: bool) -> None:
    """Refuse a run that was trained on many rows that are val or test here; report other changes of rows or labels.

    A few such rows of test are reported. They are left out when the new run is scored.

    Raises:
        CheckpointError: these are more than half of val or test; or rows of the run's own data set are val here. Names
            the split, the number of such rows and one of them.
    """
    trained, now = _compared(start, project, full)
    if trained is None:
        _note_unknown_rows(start, project)
        return
    same = same_dataset(trained, now)
    for name in SPLITS[1:]:
        leaked = trained_on(trained, now, name)
        if not leaked.any():
            continue
        what = _leak_in_words(project, trained, now, name)
        moved = same and trained_on(replace(trained, inherited=NO_ROWS), now, name)
        if (name == "val" and np.any(moved)) or 2 * leaked.sum() > len(leaked):
            raise CheckpointError(
                f"{start.folder} was trained on another draw or another state of {project.dataset.name}: "
                f"it was trained on {what}",
                "Take the same --split-seed, --val-fraction and --test-fraction, "
                "or pretrain on these rows (labeldep pretrain --out FOLDER) and start --from FOLDER.",
            )
        then = {
            "val": "the best evaluation and the thresholds are chosen on them too",
            "test": "they are left out when the new run is scored",
        }
        project.reporter.note(f"{start.folder} was trained on {what}; {then[name]}")
    if same and (words := in_words(changes(trained, now))):
        project.reporter.note(f"{project.dataset.name} has changed since {start.folder} was trained: {words}")


def require_held_out(start: Run, project: Project, config: TrainingConfig) -> None:
    """Refuse to start from the run of the default folder, which the user did not name, if val or test leak.

    Args:
        start: the run in the default folder.
        project: the data set.
        config: the settings that this run has.

    Raises:
        CheckpointError: the run was trained on rows of val or test, or it has no record of its rows and the data have
            changed since.
    """
    trained, now = _compared(start, project, config.full)
    if trained is None:
        changed = changed_splits(start.config, project.dataset)
        if not changed:
            return
        why = _unrecorded_in_words(project, changed)
    else:
        leaks = [name for name in SPLITS[1:] if trained_on(trained, now, name).any()]
        if not leaks:
            return
        what = " and ".join(_leak_in_words(project, trained, now, name) for name in leaks)
        why = f"was trained on another draw or another state of {project.dataset.name}: it was trained on {what}"
    raise CheckpointError(
        f"{start.folder} {why}",
        "Take the same --split-seed, --val-fraction and --test-fraction as it did.\n"
        f"Or pretrain again; the old run is kept: {_pretrain_command(project, config)} --fresh\n"
        "Or pretrain into another folder (--out FOLDER), and start from it: --from FOLDER",
    )


def _compared(start: Run, project: Project, full: bool) -> tuple[Rows | None, Rows]:
    """The rows of a run at training, None if it has no record; and those of the data set now."""
    trained = read_rows(start.folder)
    if trained is not None and trained.ids.contents.any():
        # Names suffice for a split without a change.
        identify_images(project, full, changed_splits(start.config, project.dataset))
    return trained, rows_of(project)


def _leak_in_words(project: Project, trained: Rows, now: Rows, name: str) -> str:
    leaked = trained_on(trained, now, name)
    example = project.dataset.splits[name].paths[leaked.argmax()]
    return f"{leaked.sum():,} of the {counted(len(leaked), 'row')} that are {name} here, such as {example!r}"


def _note_unknown_rows(start: Run, project: Project) -> None:
    """Report that a run of an older version, without stored rows, may have been trained on val or test rows."""
    changed = changed_splits(start.config, project.dataset)
    if changed and start.config["dataset"]["name"] == project.dataset.name:
        project.reporter.note(f"{start.folder} {_unrecorded_in_words(project, changed)}")


def _unrecorded_in_words(project: Project, changed: list[str]) -> str:
    return (
        f"does not say which rows it was trained on, as runs of older versions do not, and {', '.join(changed)} of "
        f"{project.dataset.name} {'has' if len(changed) == 1 else 'have'} changed since: "
        "it may have been trained on rows that are val or test here"
    )


def _pretrain_command(project: Project, config: TrainingConfig) -> str:
    """The command that trains the run of the default folder."""
    words = ["labeldep", "pretrain", "--dataset", project.source.dataset]
    if project.row is not None:
        words += flags_of(project.source, BACKBONE)
    words += flags_of(project.source, READING) + flags_of(project.workspace, ("data_dir", "runs_dir", "features_dir"))
    words += flags_of(config, ("head", "hidden", "seed"))
    return shlex.join(words + (["--full"] if config.full else []))
