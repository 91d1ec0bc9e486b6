"""Opening a run by whatever word names it."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.config import EVERYWHERE, RunWorkspace, Scope
from labeldep_cli.progress import Reporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST
from labeldep_cli.runs.names import NEWEST, exact, find_run
from labeldep_cli.runs.record import read_config
from labeldep_cli.runs.run import Run

_FACTS = ("backbone", "feature_dim", "full", "hidden", "labels", "stage", "step", "thresholds", "weights_sha256")


def open_and_announce(name: str | None, run_workspace: RunWorkspace, reporter: Reporter) -> Run:
    """`open_run`, saying which one it is where the user did not name it exactly, and whether it is unfinished."""
    run = open_run(name, run_workspace.runs_dir, run_workspace.scope, reporter)
    if not run.finished:
        reporter.note(f"{run.folder} is unfinished: this is its best so far, at step {run.facts['step']}")
    return run


def open_run(name: str | None, runs_dir: Path, scope: Scope = EVERYWHERE, reporter: Reporter | None = None) -> Run:
    """Open a run by a word as `find_run` takes it.

    Args:
        name: the word; None for the newest run.
        runs_dir: where runs lie.
        scope: as for `find_run`.
        reporter: hears which run a word stands for that is no exact name.

    Raises:
        CheckpointError: it does not exist, several are meant, or its files are broken.
    """
    folder = find_run(name, runs_dir, scope)
    if reporter is not None and (name is None or exact(name, runs_dir) is None):
        word = f"the newest run{scope.words}" if name in (None, NEWEST) else name
        reporter.note(f"{word}: {folder}")
    return Run(folder, read_config(folder), checkpoint.load(folder / BEST, _FACTS)[1])
