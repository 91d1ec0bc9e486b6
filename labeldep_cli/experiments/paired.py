"""Runs side by side: on the same rows of the same split, or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labeldep_cli.config import Machine, RunWorkspace, changed
from labeldep_cli.errors import LabeldepError
from labeldep_cli.experiments.scores import SplitPredictions, predict_split
from labeldep_cli.progress import Reporter, SilentReporter
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.run import Run


def open_paired(names: Sequence[str], run_workspace: RunWorkspace, reporter: Reporter) -> list[Run]:
    """Open runs that were trained to their end on one data set, drawn and split alike.

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
        _require_same_protocol(runs[0], run)
    return runs


def predict_paired(
    runs: Sequence[Run], run_workspace: RunWorkspace, machine: Machine, split: str, reporter: Reporter
) -> Iterator[SplitPredictions]:
    """Pass a split through one run after the other; arguments as in `see`.

    Raises:
        LabeldepError: data or weights have changed; two runs see different images.
    """
    first: Sequence[str] | None = None
    for run in runs:
        # The data set's notes are told once, though every run opens it through its own backbone.
        seen = predict_split(run, run_workspace, machine, split, None, reporter if first is None else SilentReporter())
        first = seen.inputs.paths if first is None else first
        if list(seen.inputs.paths) != list(first):  # paired by row: as many images are not enough
            raise LabeldepError(
                f"{run.folder} and {runs[0].folder} do not see the same images of {split}",
                "Extract both backbones' features anew: the images that can be read have changed (--fresh).",
            )
        yield seen


def _require_same_protocol(first: Run, other: Run) -> None:
    names = [run.config["dataset"]["name"] for run in (first, other)]
    if names[0] != names[1]:
        raise LabeldepError(
            f"{first.folder} was trained on {names[0]}, and {other.folder} on {names[1]}",
            "Compare runs on the same data set.",
        )
    mine, theirs = (_rows(run) for run in (first, other))
    differences = changed(theirs, mine)
    if differences or first.space != other.space:
        raise LabeldepError(
            f"{first.folder} and {other.folder} have another protocol: {'; '.join(differences) or 'their labels'}",
            "Compare runs on the same data set, drawn with the same --split-seed and fractions.",
        )


def _rows(run: Run) -> dict[str, str]:
    return {f"{name} rows": value[:12] for name, value in run.config["dataset"]["fingerprints"].items()}
