"""Which run a word means: a folder, a name, a stage, a part of a name, or the newest one; without torch."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
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
    read_run_record,
    run_folders,
    stage_of,
    started_of,
)

NEWEST = "@newest"

_KEPT = re.compile(r"-\d{4}-\d\d-\d\dT\d{4}(-\d+)?$")
"""The end of the name of a run that `--fresh` has kept (`claims.make_way`)."""


@dataclass(frozen=True)
class KnownRun:
    """A run in the runs dir.

    Attributes:
        folder: of the run.
        name: the folder as seen from the runs dir.
        started: when it was begun.
        record: its config.json; empty where that is broken.
    """

    folder: Path
    name: str
    started: datetime
    record: dict[str, Any]

    @property
    def usable(self) -> bool:
        """Whether it has an evaluation that can be used."""
        return (self.folder / BEST).is_file()

    @property
    def stage(self) -> str | None:
        """Pretrain, adversarial, control or critic; None where its record is broken."""
        return stage_of(self.record) if self.record else None

    @property
    def kept(self) -> bool:
        """Whether `--fresh` has put it aside."""
        return bool(_KEPT.search(self.name))

    @property
    def nested(self) -> bool:
        """Whether it lies one level below the runs dir, where `reproduce` puts its own."""
        return "/" in self.name

    def within(self, scope: Scope) -> bool:
        """Whether it is of a scope's data set and backbone; ready features have no backbone."""
        if scope == EVERYWHERE:
            return True
        settings = self.record.get("settings", {})
        names = (settings.get("dataset"), self.record.get("dataset", {}).get("name"))
        of_dataset = scope.dataset is None or scope.dataset in names or _same_place(scope.dataset, names[0])
        return of_dataset and (scope.backbone is None or settings.get("backbone") in (None, scope.backbone))


def known_runs(runs_dir: Path) -> list[KnownRun]:
    """The runs in a folder and one level below it, the newest first; those with a broken record among them."""
    found = []
    for folder in run_folders(runs_dir):
        with suppress(OSError):  # a folder that may not be entered
            if not any((folder / name).is_file() for name in (CONFIG, BEST)):
                continue
            record: dict[str, Any] | None = None
            with suppress(ValueError):
                record = read_run_record(folder)
            if record is None and (folder / BEST).is_file():
                record = {}
            if record is not None:  # else it is another program's
                name = folder.relative_to(runs_dir).as_posix()
                found.append(KnownRun(folder, name, started_of(folder, record), record))
    return sorted(found, key=lambda run: run.started, reverse=True)


def find_run(name: str | None, runs_dir: Path, scope: Scope = EVERYWHERE) -> Path:
    """The folder of a run.

    Args:
        name: a folder, a name in the runs dir, a stage, a part of a name, in this order; "@newest" or None for the
            newest run.
        runs_dir: where runs lie.
        scope: stages, parts and the newest are looked up among its runs alone.

    Raises:
        CheckpointError: there is no such run, it has no checkpoint yet, or several are meant; names them.
    """
    if name is not None and (folder := exact(name, runs_dir)) is not None:
        return folder
    runs = [run for run in known_runs(runs_dir) if run.within(scope)]
    if name is None or name == NEWEST:
        newest = next((run for run in runs if run.usable and not run.nested), None)
        if newest is None:
            raise _none_at_all(runs_dir, scope)
        return newest.folder
    of_stage = [run for run in runs if run.stage == name and not run.nested]
    meant = of_stage or [run for run in runs if name and name in run.name]
    meant = [run for run in meant if run.usable] or meant
    meant = [run for run in meant if not run.kept] or meant
    if not meant:
        raise _unknown(name, runs_dir, scope)
    if len(meant) > 1:
        raise _ambiguous(name, meant, runs_dir, scope)
    if not meant[0].usable:
        raise _without_checkpoint(meant[0].folder)
    return meant[0].folder


def exact(name: str, runs_dir: Path) -> Path | None:
    """The run of a folder, or of a name in the runs dir; None where there is none.

    Raises:
        CheckpointError: it has no checkpoint yet.
    """
    for folder in (Path(name), runs_dir / name):
        if (folder / BEST).is_file():
            return folder
        if (folder / CONFIG).is_file():
            raise _without_checkpoint(folder)
    return None


def _same_place(dataset: str, recorded: object) -> bool:
    """Whether a data set's path is a recorded one, by its table or by the folder of that."""

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
    return CheckpointError(what, "Let it train on: the same command that began it.")


def _none_at_all(runs_dir: Path, scope: Scope) -> CheckpointError:
    remedy = (
        f"Train one: labeldep adversarial --dataset {scope.dataset or 'DATASET'} "
        "(or see it all at once: labeldep demo).\n"
        "If yours lie elsewhere: --runs-dir FOLDER"
    )
    others = [run.name for run in known_runs(runs_dir) if run.usable]
    if others:
        remedy = f"Name another one: {', '.join(others)}\n{remedy}"
    return CheckpointError(f"there is no trained run{scope.words} in {runs_dir.absolute()} yet", remedy)


def _unknown(name: str, runs_dir: Path, scope: Scope) -> CheckpointError:
    runs = [run for run in known_runs(runs_dir) if run.usable]
    remedy = f"{runs_dir.absolute()} holds no trained run at all; if yours lie elsewhere: --runs-dir FOLDER"
    outside = [run.name for run in runs if not run.within(scope) and (run.stage == name or (name and name in run.name))]
    if outside:
        remedy = f"Of other data or another backbone, to be named in full: {', '.join(outside)}"
    elif runs:
        remedy = nearest(Path(name).name, [run.name for run in runs if not run.nested])
    return CheckpointError(
        f"there is no run {name!r}{scope.words}: it is no run's folder, and no name, stage or part of a name in "
        f"{runs_dir}",
        remedy,
    )


def _ambiguous(name: str, meant: Sequence[KnownRun], runs_dir: Path, scope: Scope) -> CheckpointError:
    scores = {row.run: row.val["mAP"] for row in list_runs(runs_dir, SilentReporter()) if row.val}
    width = max(len(run.name) for run in meant)
    lines = [
        f"{run.name:{width}}  {run.stage or '-':11}  {format_started(run.started)}  "
        + (f"val mAP {scores[run.folder]:.1f}" if run.folder in scores else "no evaluation")
        for run in meant
    ]
    what = f"{name!r} may mean any of {len(meant)} runs{scope.words} in {runs_dir}"
    return CheckpointError(what, "\n".join(["Name one of them in full:", *lines]))


def is_run(name: str, runs_dir: Path) -> bool:
    """Whether a run of that folder or name has been begun, or the word stands for a stage or the newest run."""
    if name in (*STAGES, NEWEST) and not Path(name).exists():
        return True
    for folder in (Path(name), runs_dir / name):
        with suppress(ValueError, OSError):  # a broken config.json, or a folder that may not be entered
            if read_run_record(folder) is not None:
                return True
    return False
