"""Find the run that a word means: a folder, a name, a stage, a part of a name, or the newest run; without torch."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labeldep_cli.config import EVERYWHERE, Scope
from labeldep_cli.errors import CheckpointError, nearest
from labeldep_cli.files import expand_home
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, facts_in_head
from labeldep_cli.runs.listing import (
    STAGES,
    format_started,
    list_runs,
    run_folders,
    stage_of,
    started_of,
)
from labeldep_cli.runs.record import read_run_record

NEWEST = "@newest"

_COMMAND_OF = {
    "pretrain": "labeldep pretrain",
    "adversarial": "labeldep adversarial",
    "control": "labeldep adversarial --critic none",
    "critic": "labeldep adversarial --critic nce --freeze-generator",
    "kernel": "labeldep adversarial --critic kernel",
}
"""The command that trains a run of each stage."""

_KEPT = re.compile(r"-\d{4}-\d\d-\d\dT\d{4}(-\d+)?$")
"""The end of the name of a run that `--fresh` has kept (`claims.clear_folder`)."""


@dataclass(frozen=True)
class KnownRun:
    """A run in the runs dir.

    Attributes:
        folder: folder of the run.
        name: the folder, relative to the runs dir.
        started: when it was started.
        record: its config.json; empty if that is broken.
    """

    folder: Path
    name: str
    started: datetime
    record: dict[str, Any]

    @property
    def usable(self) -> bool:
        """Whether it has a best checkpoint."""
        return (self.folder / BEST).is_file()

    @property
    def stage(self) -> str | None:
        """Pretrain, adversarial, control or critic; None if its record is broken."""
        return stage_of(self.record) if self.record else None

    @property
    def kept(self) -> bool:
        """Whether `--fresh` has moved it aside."""
        return bool(_KEPT.search(self.name))

    @property
    def nested(self) -> bool:
        """Whether it lies one level below the runs dir, where `reproduce` puts its own."""
        return "/" in self.name

    def within(self, scope: Scope) -> bool:
        """Whether it belongs to a scope's data set and backbone; ready features have no backbone."""
        if scope == EVERYWHERE:
            return True
        settings = self.record.get("settings", {})
        names = (settings.get("dataset"), self.record.get("dataset", {}).get("name"))
        of_dataset = scope.dataset is None or scope.dataset in names or _same_place(scope.dataset, names[0])
        return of_dataset and self.has_backbone(scope)

    def has_backbone(self, scope: Scope) -> bool:
        """Whether it is of a scope's backbone; ready features have no backbone."""
        return scope.backbone is None or self.record.get("settings", {}).get("backbone") in (None, scope.backbone)


def known_runs(runs_dir: Path) -> list[KnownRun]:
    """The runs in a folder and one level below it, the newest first, including those with a broken record."""
    runs = []
    for folder in run_folders(runs_dir):
        with suppress(OSError):  # a folder that may not be entered
            if not any((folder / name).is_file() for name in (CONFIG, BEST)):
                continue
            record: dict[str, Any] | None = None
            with suppress(ValueError):
                record = read_run_record(folder)
            if record is None and (folder / BEST).is_file():
                record = {}
            if record is not None:  # otherwise the folder belongs to another program
                name = folder.relative_to(runs_dir).as_posix()
                runs.append(KnownRun(folder, name, started_of(folder, record), record))
    return sorted(runs, key=lambda run: run.started, reverse=True)


def find_run(name: str | None, runs_dir: Path, scope: Scope = EVERYWHERE) -> Path:
    """The folder of a run.

    Args:
        name: a folder, a name in the runs dir, a stage or a part of a name, tried in this order; "@newest" or None for
            the newest run.
        runs_dir: folder of the runs.
        scope: restricts the search by stage, by part of a name and for the newest run to the runs of this scope.

    Raises:
        CheckpointError: there is no such run, it has no checkpoint yet, or several match; names them.
    """
    if name is not None and (folder := exact_run(name, runs_dir)) is not None:
        return folder
    known = known_runs(runs_dir)
    runs = [run for run in known if run.within(scope)]
    # If none fits, a run's data set may have moved to the scope's; the command that opens it checks that.
    may_have_moved = scope.dataset is not None and expand_home(Path(scope.dataset)).exists()
    moved = [run for run in known if may_have_moved and run.has_backbone(scope) and is_gone(run.record)]
    if name is None or name == NEWEST:
        newest = next((run for run in (*runs, *moved) if run.usable and not run.nested), None)
        if newest is None:
            raise _no_run(runs_dir, scope)
        return newest.folder
    of_stage = [run for run in runs if run.stage == name and not run.nested]
    matches = of_stage or [run for run in runs if name and name in run.name]
    matches = matches or [run for run in moved if run.stage == name and not run.nested]
    matches = [run for run in matches if run.usable] or matches
    matches = [run for run in matches if not run.kept] or matches
    if not matches:
        raise _unknown(name, runs_dir, scope)
    if len(matches) > 1:
        raise _ambiguous(name, matches, runs_dir, scope)
    if not matches[0].usable:
        raise _without_checkpoint(matches[0].folder)
    return matches[0].folder


def exact_run(name: str, runs_dir: Path) -> Path | None:
    """The folder of a run by its path, or by its name in the runs dir; None if there is no such run.

    Raises:
        CheckpointError: it has no checkpoint yet.
    """
    for folder in (Path(name), runs_dir / name):
        if (folder / BEST).is_file():
            return folder
        if (folder / CONFIG).is_file():
            raise _without_checkpoint(folder)
    return None


def is_gone(record: Mapping[str, Any]) -> bool:
    """Whether the path of a run's data set, as its record has it, no longer exists."""
    dataset = record.get("settings", {}).get("dataset")
    is_path = isinstance(dataset, str) and Path(dataset).is_absolute()
    return is_path and not any(character in dataset for character in "*?{") and not Path(dataset).exists()


def _same_place(dataset: str, recorded: object) -> bool:
    """Whether a path leads to a recorded data set: to its table, or to the folder of its labels.csv."""

    def place(path: str) -> str:
        real = Path(os.path.realpath(expand_home(path)))
        return str(real.parent if real.stem == "labels" else real)

    return isinstance(recorded, str) and Path(recorded).is_absolute() and place(dataset) == place(recorded)


def _without_checkpoint(folder: Path) -> CheckpointError:
    what = f"the run {folder} has no checkpoint yet"
    step = facts_in_head(folder / LAST).get("step")
    if step is not None:
        with suppress(OSError, ValueError):
            steps = (read_run_record(folder) or {}).get("steps")
            what += f" to use: it stopped at step {step} of {steps}, before its first evaluation"
    return CheckpointError(what, "Continue its training: run its training command again.")


def _no_run(runs_dir: Path, scope: Scope) -> CheckpointError:
    remedy = (
        f"Train one: labeldep adversarial --dataset {shlex.quote(scope.dataset or 'DATASET')} "
        "(or see it all at once: labeldep demo).\n"
        "If your runs are elsewhere: --runs-dir FOLDER"
    )
    others = [run.name for run in known_runs(runs_dir) if run.usable]
    if others:
        remedy = f"Name another one: {', '.join(others)}\n{remedy}"
    return CheckpointError(f"there is no trained run{scope.words} in {runs_dir.absolute()} yet", remedy)


def _unknown(name: str, runs_dir: Path, scope: Scope) -> CheckpointError:
    runs = [run for run in known_runs(runs_dir) if run.usable]
    remedy = f"{runs_dir.absolute()} holds no trained run at all; if your runs are elsewhere: --runs-dir FOLDER"
    if name in _COMMAND_OF:
        remedy = f"Train it: {_COMMAND_OF[name]}"
    outside = [run.name for run in runs if not run.within(scope) and (run.stage == name or (name and name in run.name))]
    if outside:
        remedy = f"These are of other data or another backbone; name one of them in full: {', '.join(outside)}"
    elif runs and name not in _COMMAND_OF:
        remedy = nearest(Path(name).name, [run.name for run in runs if not run.nested])
    return CheckpointError(
        f"there is no run {name!r}{scope.words}: it is no run's folder, and no name, stage or part of a name in "
        f"{runs_dir}",
        remedy,
    )


def _ambiguous(name: str, matches: Sequence[KnownRun], runs_dir: Path, scope: Scope) -> CheckpointError:
    scores = {row.run: row.val["mAP"] for row in list_runs(runs_dir, SilentReporter()) if row.val}
    width = max(len(run.name) for run in matches)
    lines = [
        f"{run.name:{width}}  {run.stage or '-':11}  {format_started(run.started)}  "
        + (f"val mAP {scores[run.folder]:.1f}" if run.folder in scores else "no evaluation")
        for run in matches
    ]
    what = f"{name!r} may mean any of {len(matches)} runs{scope.words} in {runs_dir}"
    return CheckpointError(what, "\n".join(["Name one of them in full:", *lines]))


def is_run(name: str, runs_dir: Path) -> bool:
    """Whether a word is the folder or name of a run, finished or not, or stands for a stage or the newest run."""
    if name in (*STAGES, NEWEST) and not Path(name).exists():
        return True
    for folder in (Path(name), runs_dir / name):
        with suppress(OSError):  # a folder that may not be entered
            try:
                found = read_run_record(folder) is not None
            except ValueError:  # broken; whoever opens the run says where
                found = (folder / BEST).is_file()
            if found:
                return True
    return False
