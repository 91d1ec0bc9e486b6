"""`labeldep runs clean`: what can go, and letting it go. Nothing but a run's own files is ever removed."""

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
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, LOCK, METRICS, RESULT, ROWS, SCRATCH, TENSORBOARD
from labeldep_cli.runs.listing import read_run_record, run_folders
from labeldep_cli.runs.record import result_of

_OWN = (RESULT, BEST, LAST, METRICS, TENSORBOARD, ROWS, CONFIG)
"""A run's own; the result first, so that a kill on the way leaves no run that looks finished."""

_EMPTY = "never began"


@dataclass(frozen=True)
class CleaningRequest:
    """What is to go beside what always may: leftovers of kills, and runs without a checkpoint.

    Attributes:
        named: the runs that are looked at; all where empty. They go whole, unless `last` is set.
        unfinished: runs that have not come to their end go too, checkpoints and all.
        last: of finished runs `last.safetensors` goes, which only going on would need.
    """

    named: tuple[str, ...] = ()
    unfinished: bool = False
    last: bool = False


@dataclass(frozen=True)
class Removal:
    """What can go of one run's folder.

    Attributes:
        folder: of the run.
        why: it can, in a few words.
        files: files, and the folder of a checkpoint amid its writing.
        bytes: of them together.
        in_use: a process holds the run's lock: nothing will be touched.
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


def find_removals(runs_dir: Path, wanted: CleaningRequest) -> list[Removal]:
    """What can go, folder by folder; nothing is touched.

    Raises:
        CheckpointError: a name that is no run's.
    """
    folders: Sequence[Path] = [_named(name, runs_dir) for name in wanted.named] or list(run_folders(runs_dir))
    found = (_removal(folder, wanted, locked(folder / LOCK)) for folder in dict.fromkeys(folders))
    return [removal for removal in found if removal is not None]


def remove(removal: Removal, wanted: CleaningRequest) -> bool:
    """Remove what was found, unless a process works on the run, or it has changed since.

    The folder goes too where nothing of the user's own lies in it.

    Returns:
        Whether it was removed.

    Raises:
        StorageError: the place is not writable.
    """
    if locked(removal.folder / LOCK):
        return False
    with lock(removal.folder / LOCK, str(removal.folder)), storing(removal.folder):
        # Not asked again who holds the lock: to close its file a second time would let go of it.
        if _removal(removal.folder, wanted, in_use=False) != removal:
            return False
        for path in removal.files:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any((removal.folder / name).exists() for name in _OWN):
        with suppress(OSError):  # it holds files that are not the run's, or is a link
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
                f"{folder} is not known for a run: its {CONFIG} is broken or another program's",
                "Look into it, and remove it by hand.",
            )
    known = [folder.relative_to(runs_dir).as_posix() for folder in run_folders(runs_dir)]
    raise CheckpointError(f"there is no run {name!r}", nearest(name, known) if known else "See: labeldep runs")


def _removal(folder: Path, wanted: CleaningRequest, in_use: bool) -> Removal | None:
    """What of a folder can go; None where there is nothing, or the folder is no run's."""
    why, files = _found(folder, wanted)
    there = tuple(path for path in files if path.exists())
    if not why or not (there or why == _EMPTY):
        return None
    inside = [path for file in there for path in (file.rglob("*") if file.is_dir() else (file,))]
    return Removal(folder, why, there, sum(path.stat().st_size for path in inside), in_use)


def _found(folder: Path, wanted: CleaningRequest) -> tuple[str, tuple[Path, ...]]:
    scraps = (folder / SCRATCH, *(folder / f".{name}.writing" for name in _OWN))
    whole = (*(folder / name for name in _OWN), *scraps)
    try:
        record = read_run_record(folder)
        if record is None:
            return (_EMPTY, ()) if [path.name for path in folder.iterdir()] == [LOCK] else ("", ())
    except (ValueError, OSError):
        return "", ()
    if wanted.named and not wanted.last:
        return "named", whole
    if not (folder / BEST).exists() and not (folder / LAST).exists():
        return "no checkpoint", whole
    finished = result_of(folder) is not None
    if wanted.unfinished and not finished:
        return "unfinished", whole
    # `best` alone is enough for a finished run, if it can be read.
    if wanted.last and finished and (folder / LAST).exists() and checkpoint.read_facts(folder / BEST):
        return "finished: only going on would need it", (folder / LAST, *scraps)
    return "left by a kill amid a write", scraps
