"""Open a run by a word that identifies it."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.config import EVERYWHERE, RunWorkspace, Scope
from labeldep_cli.progress import Reporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.facts import require_best
from labeldep_cli.runs.layout import BEST
from labeldep_cli.runs.names import NEWEST, exact_run, find_run
from labeldep_cli.runs.record import read_config
from labeldep_cli.runs.run import Run


def open_and_announce(name: str | None, run_workspace: RunWorkspace, reporter: Reporter) -> Run:
    """`open_run`, with a note if the run is unfinished."""
    run = open_run(name, run_workspace.runs_dir, run_workspace.scope, reporter)
    if not run.finished:
        reporter.note(f"{run.folder} is unfinished: this is its best so far, at step {run.facts['step']}")
    return run


def open_run(name: str | None, runs_dir: Path, scope: Scope = EVERYWHERE, reporter: Reporter | None = None) -> Run:
    """Open the run that `find_run` finds.

    Args:
        name: a word, as `find_run` takes it; None for the newest run.
        runs_dir: folder of the runs.
        scope: as for `find_run`.
        reporter: receives a note with the run's folder, unless the word is its exact name.

    Raises:
        CheckpointError: there is no such run, several match, or its files are broken.
    """
    folder = find_run(name, runs_dir, scope)
    if reporter is not None and (name is None or exact_run(name, runs_dir) is None):
        word = f"the newest run{scope.words}" if name in (None, NEWEST) else name
        reporter.note(f"{word}: {folder}")
    return Run(folder, read_config(folder), checkpoint.load(folder / BEST, require_best)[1])
