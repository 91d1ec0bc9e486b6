"""Predictions of several runs for the same rows of the same split. Runs on different rows are refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import Machine, RunWorkspace, changed
from labeldep_cli.errors import LabeldepError
from labeldep_cli.experiments.scores import SplitPredictions, predict_split
from labeldep_cli.files import counted
from labeldep_cli.progress import DeduplicatingReporter, Reporter
from labeldep_cli.runs.changes import SplitChange, changes
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.rows import Rows, SplitRows, read_rows
from labeldep_cli.runs.run import Run


def open_paired(
    names: Sequence[str], run_workspace: RunWorkspace, split: str, reporter: Reporter, ordered: bool = False
) -> list[Run]:
    """Open finished runs to score them on the same rows of a split.

    Args:
        names: names of the runs.
        run_workspace: the folder of the runs, and the data set to score.
        split: name of the split to score.
        reporter: receives notes on differences between the rows and labels that the runs were trained on.
        ordered: require that the labels have the same order, too.

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
        _require_same_protocol(runs[0], run, run_workspace, split, ordered, reporter)
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
        others = [other for other in runs if other is not run]
        predictions = predict_split(run, run_workspace, machine, split, None, reporter, others)
        scored = _ScoredRows.of(predictions)
        first = first or scored
        first.require_same(scored)
        yield predictions


@dataclass(frozen=True)
class _ScoredRows:
    """The rows that a run scores, without features and networks.

    Attributes:
        run: the run.
        split: name of the split.
        rows: all rows of the split.
        paths: their names, for messages.
        usable: bool [N], whether the image can be read.
    """

    run: Run
    split: str
    rows: SplitRows
    paths: tuple[str, ...]
    usable: NDArray[np.bool_]

    @staticmethod
    def of(predictions: SplitPredictions) -> _ScoredRows:
        """The rows of predictions."""
        name, paths = predictions.split, predictions.data.dataset.splits[predictions.split].paths
        usable = set(predictions.inputs.paths)
        # Ready features are named by their positions, and all of them are usable.
        mask = np.array([predictions.run.has_features or path in usable for path in paths], bool)
        return _ScoredRows(predictions.run, name, predictions.data.now.splits[name], paths, mask)

    def require_same(self, other: _ScoredRows) -> None:
        """Refuse a run that does not score the same rows with the same labels, since runs are paired row by row.

        Raises:
            LabeldepError: names both runs.
        """
        folders = f"{other.run.folder} and {self.run.folder}"
        mine, theirs = self.rows, other.rows
        if len(mine.ids) == len(theirs.ids) and mine.ids.equal(theirs.ids).all():
            same = self.run.space.names
            column = {name: k for k, name in enumerate(other.run.space.names)}
            what = "" if np.array_equal(mine.labels, theirs.labels[:, [column[name] for name in same]]) else "labels"
        else:
            only = [f"{counted(n, 'row')} of {run} alone{example}" for run, n, example in self._alone(other) if n]
            what = f"rows ({'; '.join(only)})" if only else "order of the rows"
        if what:
            raise LabeldepError(
                f"the data sets of {folders} differ now: other {what} of {self.split}",
                "Score both on the same data set: --dataset DATASET\n"
                "Splits that are drawn are equal only with the same --split-seed and fractions.",
            )
        if not np.array_equal(self.usable, other.usable):
            raise LabeldepError(
                f"{folders} do not see the same images of {self.split}",
                "Extract the features of both backbones again (--fresh): the images that can be read have changed.",
            )

    def _alone(self, other: _ScoredRows) -> Iterator[tuple[str, int, str]]:
        """For each of both runs: its name, the number of rows that only it has, and one of them for a message."""
        for one, two in ((self, other), (other, self)):
            alone = ~one.rows.ids.among(two.rows.ids)
            yield one.run.folder.name, int(alone.sum()), f", such as {one.paths[alone.argmax()]!r}"


def _require_same_protocol(
    first: Run, other: Run, run_workspace: RunWorkspace, split: str, ordered: bool, reporter: Reporter
) -> None:
    _require_same_labels(first, other, ordered)
    mine, theirs = (read_rows(run.folder) for run in (first, other))
    if mine is None or theirs is None:
        _require_same_fingerprints(first, other)
        return
    by_split = changes(mine, theirs)
    if run_workspace.dataset is not None:  # another data set is scored
        by_split.pop(split, None)
    if words := _differences(first, other, by_split, mine, theirs, split):
        reporter.note(words)


def _require_same_labels(first: Run, other: Run, ordered: bool) -> None:
    """Refuse runs with other labels and, if `ordered`, with the same labels in another order.

    Raises:
        LabeldepError: names both runs and the labels.
    """
    mine, theirs = first.space.names, other.space.names
    if set(mine) != set(theirs):
        _require_same_name(first, other)
        parts = [
            f"{run.folder.name} alone has {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            for run, names in (
                (first, [name for name in mine if name not in theirs]),
                (other, [name for name in theirs if name not in mine]),
            )
            if names
        ]
        raise LabeldepError(
            f"{first.folder} and {other.folder} have other labels: {'; '.join(parts)}",
            "Train both on a data set with the same labels.",
        )
    if ordered and mine != theirs:
        k = next(k for k, (a, b) in enumerate(zip(mine, theirs, strict=True)) if a != b)
        raise LabeldepError(
            f"{first.folder} and {other.folder} have the same labels in another order: label {k} is {mine[k]!r} in "
            f"{first.folder.name} and {theirs[k]!r} in {other.folder.name}",
            f"Compare them without a page: {shlex.join(['labeldep', 'compare', str(first.folder), str(other.folder)])}",
        )


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


def _require_same_fingerprints(first: Run, other: Run) -> None:
    """Compare two runs by fingerprint if one has not stored its rows: then all splits have to be the same."""
    _require_same_name(first, other)
    mine, theirs = (_fingerprints(run) for run in (first, other))
    if differences := changed(theirs, mine):
        raise LabeldepError(
            f"{first.folder} and {other.folder} have another protocol: {'; '.join(differences)}",
            "Compare runs on the same data set, drawn with the same --split-seed and fractions.",
        )


def _require_same_name(first: Run, other: Run) -> None:
    names = [run.config["dataset"]["name"] for run in (first, other)]
    if names[0] != names[1]:
        raise LabeldepError(
            f"{first.folder} was trained on {names[0]}, and {other.folder} on {names[1]}",
            "Compare runs on the same data set, or score both on another one: --dataset DATASET",
        )


def _fingerprints(run: Run) -> dict[str, str]:
    return {f"{name} rows": value[:12] for name, value in run.config["dataset"]["fingerprints"].items()}
