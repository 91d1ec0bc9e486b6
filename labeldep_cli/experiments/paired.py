"""Runs side by side: on the same rows of the same split, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import Machine, RunWorkspace, changed
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.errors import DatasetError, LabeldepError, StorageError
from labeldep_cli.experiments.scores import SplitPredictions, predict_split
from labeldep_cli.progress import DeduplicatingReporter, Reporter, SilentReporter
from labeldep_cli.runs.changes import SplitChange, changes, counted, same_dataset
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.rows import Rows, SplitRows, read_rows, row_ids
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
    runs = [open_run(name, run_workspace.runs_dir, run_workspace.scope, reporter) for name in names]
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
    first: _ScoredRows | None = None
    reporter = DeduplicatingReporter(reporter)  # every run opens the data set through its own backbone
    for run in runs:
        seen = predict_split(run, run_workspace, machine, split, None, reporter)
        # Ready features are called after their places, and all of them can be used.
        usable = () if run.has_features else tuple(seen.inputs.paths)
        here = _ScoredRows(run.folder, split, seen.data.now.splits[split], usable)
        first = first or here
        first.require_same(here)
        yield seen


@dataclass(frozen=True)
class _ScoredRows:
    """What a run scores; features and networks are not held for it.

    Attributes:
        folder: of the run.
        split: the name of the split.
        rows: all of its rows.
        usable: the names of the images that can be read.
    """

    folder: Path
    split: str
    rows: SplitRows
    usable: tuple[str, ...]

    def require_same(self, other: _ScoredRows) -> None:
        """Refuse a run that does not score the same rows with the same labels: runs are paired by row.

        Raises:
            LabeldepError: names both runs.
        """
        folders = f"{other.folder} and {self.folder}"
        mine, theirs = self.rows, other.rows
        if np.array_equal(mine.ids, theirs.ids):
            what = "" if np.array_equal(mine.labels, theirs.labels) else "labels"
        else:
            what = "order of the rows" if np.array_equal(np.sort(mine.ids), np.sort(theirs.ids)) else "rows"
        if what:
            raise LabeldepError(
                f"the data sets of {folders} differ now: other {what} of {self.split}",
                "Score both on one: --dataset DATASET",
            )
        if self.usable != other.usable:
            raise LabeldepError(
                f"{folders} do not see the same images of {self.split}",
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
    if run_workspace.dataset is None:
        _require_same_rows(first, other, mine, theirs, split)
    found = changes(mine, theirs)
    if run_workspace.dataset is not None:  # the rows that are scored are compared when it is open
        found.pop(split, None)
    if words := _differences(first, other, found, mine, theirs, split):
        reporter.note(words)


def _require_same_rows(first: Run, other: Run, mine: Rows, theirs: Rows, split: str) -> None:
    """Refuse runs that were trained with other rows of a split."""
    missing = np.setdiff1d(mine.splits[split].ids, theirs.splits[split].ids)
    further = np.setdiff1d(theirs.splits[split].ids, mine.splits[split].ids)
    if not (len(missing) or len(further)):
        return
    if not (same_dataset(mine, theirs) or same_dataset(theirs, mine)):
        _require_same_name(first, other)
    told = [
        f"{counted(len(ids), 'row')} of {run.folder.name} alone{_example(run, split, ids)}"
        for run, ids in ((first, missing), (other, further))
        if len(ids)
    ]
    _refuse(first, other, f"other rows of {split}: {'; '.join(told)}")


def _differences(first: Run, other: Run, found: Mapping[str, SplitChange], mine: Rows, theirs: Rows, split: str) -> str:
    """What differs in the data that two runs were trained on, in a sentence; empty where nothing does."""
    names = [run.folder.name for run in (first, other)]
    a, b = names if names[0] != names[1] else [str(run.folder) for run in (first, other)]
    words = []
    for name, change in found.items():
        use = {"train": "trained on other", "val": "validated on other"}.get(name, f"their {name} had other")
        if change.added or change.removed:
            words.append(f"{use} rows: {a} {len(mine.splits[name].ids):,}, {b} {len(theirs.splits[name].ids):,}")
        if change.cells:
            words.append(f"{use} labels: {counted(change.cells, 'label')} of {counted(change.rows, 'row')}")
        if name == split:
            words[-1] += ", both are scored on those of now"
    return f"{a} and {b}: {'; '.join(words)}" if words else ""


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
