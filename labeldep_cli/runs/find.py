"""Finding a run by folder or name, and opening it."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.errors import CheckpointError, nearest
from labeldep_cli.progress import Reporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, facts_in_head
from labeldep_cli.runs.record import read_config
from labeldep_cli.runs.run import Run

_FACTS = ("backbone", "feature_dim", "full", "hidden", "labels", "stage", "step", "thresholds", "weights_sha256")


def find_run(name: str | None, runs_dir: Path) -> Path:
    """The folder of a run.

    Args:
        name: a folder, or a name in the runs dir; None for the newest run.
        runs_dir: where runs lie.

    Raises:
        CheckpointError: there is no such run; names the near ones.
    """
    runs = sorted(runs_dir.glob(f"*/{BEST}"), key=lambda path: path.stat().st_mtime_ns)
    if name is None:
        if not runs:
            raise CheckpointError(
                f"there is no trained run in {runs_dir.absolute()} yet",
                "Train one: labeldep adversarial --dataset DATASET (or see it all at once: labeldep demo).\n"
                "If yours lie elsewhere: --runs-dir FOLDER",
            )
        return runs[-1].parent
    for folder in (Path(name), runs_dir / name):
        if (folder / BEST).is_file():
            return folder
        if (folder / CONFIG).is_file():
            raise _without_checkpoint(folder)
    raise CheckpointError(
        f"there is no run {name!r}: it is no run's folder, and no name in {runs_dir}",
        nearest(Path(name).name, [path.parent.name for path in runs])
        if runs
        else f"{runs_dir.absolute()} holds no trained run at all; if yours lie elsewhere: --runs-dir FOLDER",
    )


def _without_checkpoint(folder: Path) -> CheckpointError:
    what = f"the run {folder} has no checkpoint yet"
    step = facts_in_head(folder / LAST).get("step")
    if step is not None:
        what += f" to use: it stopped at step {step} of {read_config(folder).get('steps')}, before its first evaluation"
    return CheckpointError(what, "Let it train on: the same command that began it.")


def open_and_announce(name: str | None, runs_dir: Path, reporter: Reporter) -> Run:
    """`open_run`, saying which one it is where the user named none, and whether it is unfinished."""
    run = open_run(name, runs_dir)
    if name is None:
        reporter.note(f"the newest run: {run.folder}")
    if not run.finished:
        reporter.note(f"{run.folder} is unfinished: this is its best so far, at step {run.facts['step']}")
    return run


def open_run(name: str | None, runs_dir: Path) -> Run:
    """Open a run: a folder, a name in the runs dir, or None for the newest.

    Raises:
        CheckpointError: it does not exist, or its files are broken.
    """
    folder = find_run(name, runs_dir)
    return Run(folder, read_config(folder), checkpoint.load(folder / BEST, _FACTS)[1])
