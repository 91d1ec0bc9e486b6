"""Runs side by side: on the same rows of the same split, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import Machine, RunWorkspace, changed
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.split import Draw
from labeldep_cli.errors import DatasetError, LabeldepError, StorageError
from labeldep_cli.experiments.scores import SplitPredictions, predict_split
from labeldep_cli.progress import Reporter, SilentReporter
from labeldep_cli.runs.changes import SplitChange, changes, counted, same_dataset
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.rows import Rows, read_rows, row_ids
from labeldep_cli.runs.run import Run


def open_paired(names: Sequence[str], run_workspace: RunWorkspace, split: str, reporter: Reporter) -> list[Run]:
    """Open runs that were trained to their end, and whose rows of a split are the same.

    Args:
        names: of the runs.
        run_workspace: where they lie, and which data set they are to score.
        split: that is to be scored.
        reporter: takes notes: what differs in the rows and labels that they were trained on.

    Raises:
        LabeldepError: there is no such run; one is unfinished; the protocol of one is not that of the first.
    """
    runs = [open_run(name, run_workspace.runs_dir) for name in names]
    for run in runs:
        if not run.finished:
            raise LabeldepError(
                f"{run.folder} is unfinished, which is no match for a finished run",
                "Let it train on: the same command that began it.",
            )
    for run in runs[1:]:
        _require_same_protocol(runs[0], run, run_workspace, split, reporter)
    return runs


def predict_paired(
    runs: Sequence[Run], run_workspace: RunWorkspace, machine: Machine, split: str, reporter: Reporter
) -> Iterator[SplitPredictions]:
    """Pass a split through one run after the other; arguments as in `open_paired`.

    Raises:
        LabeldepError: data or weights have changed; two runs see different images or labels.
    """
    first: SplitPredictions | None = None
    for run in runs:
        # The data set's notes are told once, though every run opens it through its own backbone.
        seen = predict_split(run, run_workspace, machine, split, None, reporter if first is None else SilentReporter())
        if first is not None:
            _require_same_data(first, seen)
        first = first or seen
        yield seen


def _require_same_data(first: SplitPredictions, other: SplitPredictions) -> None:
    """Refuse runs that do not score the same images with the same labels: they are paired by row."""
    folders, name = f"{other.run.folder} and {first.run.folder}", first.split
    mine, theirs = (seen.project.dataset.split(name) for seen in (first, other))
    if mine.paths != theirs.paths or not np.array_equal(mine.labels, theirs.labels):
        what = "rows" if mine.paths != theirs.paths else "labels"
        raise LabeldepError(
            f"the data sets of {folders} differ now: other {what} of {name}", "Score both on one: --dataset DATASET"
        )
    if list(other.inputs.paths) != list(first.inputs.paths):
        raise LabeldepError(
            f"{folders} do not see the same images of {name}",
            "Extract both backbones' features anew: the images that can be read have changed (--fresh).",
        )


def _require_same_protocol(first: Run, other: Run, run_workspace: RunWorkspace, split: str, reporter: Reporter) -> None:
    if first.space != other.space:
        _require_same_name(first, other)
        _refuse(first, other, "their labels")
    mine, theirs = (read_rows(run.folder) for run in (first, other))
    if mine is None or theirs is None:
        _require_same_fingerprints(first, other)
        return
    if run_workspace.dataset is not None:  # the rows that are scored are compared when it is open
        return
    if not (same_dataset(mine, theirs) or same_dataset(theirs, mine)):
        _require_same_name(first, other)
    missing = np.setdiff1d(mine.splits[split].ids, theirs.splits[split].ids)
    further = np.setdiff1d(theirs.splits[split].ids, mine.splits[split].ids)
    if len(missing) or len(further):
        told = [
            f"{counted(len(ids), 'row')} of {run.folder.name} alone{_example(run, split, ids)}"
            for run, ids in ((first, missing), (other, further))
            if len(ids)
        ]
        _refuse(first, other, f"other rows of {split}: {'; '.join(told)}")
    if words := _differences(first, other, changes(mine, theirs), mine, theirs, split):
        reporter.note(words)


def _differences(first: Run, other: Run, found: Mapping[str, SplitChange], mine: Rows, theirs: Rows, split: str) -> str:
    """What differs in the data that two runs were trained on, in a sentence; empty where nothing does."""
    a, b = (
        (first.folder.name, other.folder.name)
        if first.folder.name != other.folder.name
        else (str(first.folder), str(other.folder))
    )
    words = []
    for name, change in found.items():
        sizes = f"{a} {len(mine.splits[name].ids):,}, {b} {len(theirs.splits[name].ids):,}"
        use = {"train": "trained on", "val": "validated on"}.get(name, "made with")
        if change.added or change.removed:
            words.append(f"{use} other rows of {name}: {sizes}")
        if change.cells:
            labels = f"{counted(change.cells, 'label')} of {counted(change.rows, 'row')}"
            words.append(
                f"{use} other labels of {name}: {labels}" if name != split else f"of {name}, {labels} differed"
            )
    if not words:
        return ""
    today = f"; both are scored on the labels of {split} as they are now" if split in found else ""
    return f"{a} and {b} were {'; '.join(words)}{today}"


def _example(run: Run, split: str, ids: NDArray[np.int64]) -> str:
    """The name of one of some rows, as far as the run's data set is still there: ", such as 'a.jpg'"."""
    source = run.source()
    draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
    try:
        dataset = registry.load(source.dataset, Path(run.config["data_dir"]), draw, SilentReporter())
    except (DatasetError, StorageError):
        return ""
    for part in (dataset.splits[split], *dataset.splits.values()):
        here = np.flatnonzero(np.isin(row_ids(part), ids))
        if len(here):
            return f", such as {part.paths[here[0]]!r}"
    return ""


def _require_same_fingerprints(first: Run, other: Run) -> None:
    """Compare runs of which one does not say which rows it was trained on: all of them have to be the same."""
    _require_same_name(first, other)
    mine, theirs = (_fingerprints(run) for run in (first, other))
    if differences := changed(theirs, mine):
        _refuse(first, other, "; ".join(differences))


def _require_same_name(first: Run, other: Run) -> None:
    names = [run.config["dataset"]["name"] for run in (first, other)]
    if names[0] != names[1]:
        raise LabeldepError(
            f"{first.folder} was trained on {names[0]}, and {other.folder} on {names[1]}",
            "Compare runs on the same data set, or score both on another one: --dataset DATASET",
        )


def _refuse(first: Run, other: Run, why: str) -> NoReturn:
    raise LabeldepError(
        f"{first.folder} and {other.folder} have another protocol: {why}",
        "Compare runs on the same data set, drawn with the same --split-seed and fractions.",
    )


def _fingerprints(run: Run) -> dict[str, str]:
    return {f"{name} rows": value[:12] for name, value in run.config["dataset"]["fingerprints"].items()}
