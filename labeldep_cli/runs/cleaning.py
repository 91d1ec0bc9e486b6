"""`labeldep runs clean`: find what can be removed, and remove it. Only files that belong to a run are ever removed."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.errors import CheckpointError, nearest
from labeldep_cli.files import lock, locked, storing
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, LOCK, OWN, SCRATCH
from labeldep_cli.runs.listing import run_folders
from labeldep_cli.runs.record import read_run_record, result_of

_EMPTY = "never began"


@dataclass(frozen=True)
class CleaningRequest:
    """What to remove. Leftovers of kills, and runs without a checkpoint, are always included.

    Attributes:
        named: consider only these runs; all runs if empty. Named runs are removed completely, unless `last` is set.
        unfinished: also remove unfinished runs with their checkpoints.
        last: remove `last.safetensors` of finished runs, which is needed only to continue training.
    """

    named: tuple[str, ...] = ()
    unfinished: bool = False
    last: bool = False


@dataclass(frozen=True)
class Removal:
    """What can be removed from one run's folder.

    Attributes:
        folder: folder of the run.
        why: the reason, in a few words.
        files: files, and the folder of a checkpoint that was being written.
        bytes: their total size.
        in_use: whether a process holds the run's lock; then nothing is removed.
    """

    folder: Path
    why: str
    files: tuple[Path, ...]
    bytes: int
    in_use: bool

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON."""
        return {
            "run": str(self.folder),
            "why": self.why,
            "files": [path.name for path in self.files],
            "bytes": self.bytes,
            "in_use": self.in_use,
        }


def find_removals(runs_dir: Path, request: CleaningRequest) -> list[Removal]:
    """Find what can be removed, one entry per folder. Nothing is changed.

    Raises:
        CheckpointError: a name is not that of a run.
    """
    folders: Sequence[Path] = [_named(name, runs_dir) for name in request.named] or list(run_folders(runs_dir))
    removals = (_removal(folder, request, locked(folder / LOCK)) for folder in dict.fromkeys(folders))
    return [removal for removal in removals if removal is not None]


def remove(removal: Removal, request: CleaningRequest) -> bool:
    """Carry out a removal, unless a process is using the run, or the run has changed since.

    The folder is removed too, if it contains no other files.

    Returns:
        Whether it was removed.

    Raises:
        StorageError: the folder is not writable.
    """
    if locked(removal.folder / LOCK):
        return False
    with lock(removal.folder / LOCK, str(removal.folder)), storing(removal.folder):
        # The lock is not checked again: closing its file a second time would release it.
        if _removal(removal.folder, request, in_use=False) != removal:
            return False
        for path in removal.files:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any((removal.folder / name).exists() for name in OWN):
        with suppress(OSError):  # it contains files that are not the run's, or is a link
            if {path.name for path in removal.folder.iterdir()} == {LOCK}:
                (removal.folder / LOCK).unlink()
                removal.folder.rmdir()
    return True


def _named(name: str, runs_dir: Path) -> Path:
    for folder in (Path(name), runs_dir / name):
        with suppress(ValueError, OSError):
            if read_run_record(folder) is not None:
                return folder
        if (folder / CONFIG).exists():
            raise CheckpointError(
                f"{folder} is not recognised as a run: its {CONFIG} is broken or belongs to another program",
                "Look at its contents, and remove it by hand.",
            )
    known = [folder.relative_to(runs_dir).as_posix() for folder in run_folders(runs_dir)]
    raise CheckpointError(f"there is no run {name!r}", nearest(name, known) if known else "See: labeldep runs")


def _removal(folder: Path, request: CleaningRequest, in_use: bool) -> Removal | None:
    """What can be removed from a folder; None if there is nothing, or if it is not a run's folder."""
    why, files = _removable(folder, request)
    existing = tuple(path for path in files if path.exists())
    if not why or not (existing or why == _EMPTY):
        return None
    inside = [path for file in existing for path in (file.rglob("*") if file.is_dir() else (file,))]
    return Removal(folder, why, existing, sum(path.stat().st_size for path in inside), in_use)


def _removable(folder: Path, request: CleaningRequest) -> tuple[str, tuple[Path, ...]]:
    scraps = (folder / SCRATCH, *(folder / f".{name}.writing" for name in OWN))
    everything = (*(folder / name for name in OWN), *scraps)
    try:
        record = read_run_record(folder)
        if record is None:
            return (_EMPTY, ()) if [path.name for path in folder.iterdir()] == [LOCK] else ("", ())
    except (ValueError, OSError):
        return "", ()
    if request.named and not request.last:
        return "named", everything
    if not (folder / BEST).exists() and not (folder / LAST).exists():
        return "no checkpoint", everything
    finished = result_of(folder) is not None
    if request.unfinished and not finished:
        return "unfinished", everything
    # `best` alone is enough for a finished run, if it can be read.
    if request.last and finished and (folder / LAST).exists() and checkpoint.read_facts(folder / BEST):
        return "finished: needed only to continue training", (folder / LAST, *scraps)
    return "left by a kill during a write", scraps
