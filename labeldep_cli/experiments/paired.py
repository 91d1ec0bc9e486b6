"""Predictions of several runs for the same rows of the same split. Runs on different rows are refused."""

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
    """Open finished runs that have the same rows in a split.

    Args:
        names: names of the runs.
        run_workspace: the folder of the runs, and the data set to score.
        split: name of the split to score.
        reporter: receives notes on differences between the rows and labels that the runs were trained on.

    Raises:
        LabeldepError: there is no such run; one is unfinished; the protocol of one differs from that of the first.
    """
    runs = [open_run(name, run_workspace.runs_dir, run_workspace.scope, reporter) for name in names]
    for run in runs:
        if not run.finished:
            raise LabeldepError(
                f"{run.folder} is unfinished; only finished runs are compared",
                "Finish its training: run its training command again.",
            )
    for run in runs[1:]:
        _require_same_protocol(runs[0], run, run_workspace, split, reporter)
    return runs


def predict_paired(
    runs: Sequence[Run], run_workspace: RunWorkspace, machine: Machine, split: str, reporter: Reporter
) -> Iterator[SplitPredictions]:
    """Yield the predictions of one run after the other for a split; arguments as in `open_paired`.

    Raises:
        LabeldepError: data or weights have changed; two runs have different images or labels.
    """
    first: _ScoredRows | None = None
    reporter = DeduplicatingReporter(reporter)  # every run opens the data set through its own backbone
    for run in runs:
        predictions = predict_split(run, run_workspace, machine, split, None, reporter)
        # Ready features are named by their positions, and all of them are usable.
        usable = () if run.has_features else tuple(predictions.inputs.paths)
        scored = _ScoredRows(run.folder, split, predictions.data.now.splits[split], usable)
        first = first or scored
        first.require_same(scored)
        yield predictions


@dataclass(frozen=True)
class _ScoredRows:
    """The rows that a run scores, without features and networks.

    Attributes:
        folder: folder of the run.
        split: name of the split.
        rows: all rows of the split.
        usable: names of the images that can be read.
    """

    folder: Path
    split: str
    rows: SplitRows
    usable: tuple[str, ...]

    def require_same(self, other: _ScoredRows) -> None:
        """Refuse a run that does not score the same rows with the same labels, since runs are paired row by row.

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
                "Score both on the same data set: --dataset DATASET",
            )
        if self.usable != other.usable:
            raise LabeldepError(
                f"{folders} do not see the same images of {self.split}",
                "Extract the features of both backbones again (--fresh): the images that can be read have changed.",
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
    by_split = changes(mine, theirs)
    if run_workspace.dataset is not None:  # the rows to score are compared once this data set is open
        by_split.pop(split, None)
    if words := _differences(first, other, by_split, mine, theirs, split):
        reporter.note(words)


def _require_same_rows(first: Run, other: Run, mine: Rows, theirs: Rows, split: str) -> None:
    """Refuse two runs whose data sets had different rows in a split."""
    only_mine = np.setdiff1d(mine.splits[split].ids, theirs.splits[split].ids)
    only_theirs = np.setdiff1d(theirs.splits[split].ids, mine.splits[split].ids)
    if not (len(only_mine) or len(only_theirs)):
        return
    if not (same_dataset(mine, theirs) or same_dataset(theirs, mine)):
        _require_same_name(first, other)
    parts = [
        f"{counted(len(ids), 'row')} of {run.folder.name} alone{_example(run, split, ids)}"
        for run, ids in ((first, only_mine), (other, only_theirs))
        if len(ids)
    ]
    _refuse(first, other, f"other rows of {split}: {'; '.join(parts)}")


def _differences(
    first: Run, other: Run, by_split: Mapping[str, SplitChange], mine: Rows, theirs: Rows, split: str
) -> str:
    """The differences of the data that two runs were trained on, in a sentence; empty if there are none."""
    names = [run.folder.name for run in (first, other)]
    a, b = names if names[0] != names[1] else [str(run.folder) for run in (first, other)]
    words = []
    for name, change in by_split.items():
        use = {"train": "trained on other", "val": "validated on other"}.get(name, f"their {name} had other")
        if change.added or change.removed:
            words.append(f"{use} rows: {a} {len(mine.splits[name].ids):,}, {b} {len(theirs.splits[name].ids):,}")
        if change.cells:
            words.append(f"{use} labels: {counted(change.cells, 'label')} of {counted(change.rows, 'row')}")
        if name == split:
            words[-1] += "; both are scored on the present ones"
    return f"{a} and {b}: {'; '.join(words)}" if words else ""


def _example(run: Run, split: str, ids: NDArray[np.int64]) -> str:
    """An example of some rows, if the run's data set can still be read: ", such as 'a.jpg'"."""
    source = run.source()
    draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
    try:
        dataset = registry.load(source.dataset, Path(run.config["data_dir"]), draw, SilentReporter())
    except (DatasetError, StorageError):
        return ""
    for part in (dataset.splits[split], *dataset.splits.values()):
        rows = np.flatnonzero(np.isin(row_ids(part), ids))
        if len(rows):
            return f", such as {part.paths[rows[0]]!r}"
    return ""


def _require_same_fingerprints(first: Run, other: Run) -> None:
    """Compare two runs by fingerprint if one has not stored its rows: then all splits have to be the same."""
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
