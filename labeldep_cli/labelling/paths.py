"""From what the user names to image paths, and from paths to batches."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES

BATCH = 32

_AHEAD = 8 * BATCH
_GRACE = 0.005  # seconds that a batch waits for its next path


def expand(words: Iterable[str]) -> Iterator[str]:
    """Turn what the user names into image paths: files as they are, folders and globs as the images in them, sorted."""
    for word in words:
        # os.path's answer is False where Path's methods raise: a name too long, a folder that may not be entered.
        if os.path.isdir(word):  # noqa: PTH112
            files = sorted(Path(word).rglob("*"))
            yield from (str(p) for p in files if p.suffix.lower() in IMAGE_SUFFIXES and os.path.isfile(p))  # noqa: PTH113
        elif not os.path.exists(word) and glob.has_magic(word):  # noqa: PTH110
            matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - the pattern may be absolute
            yield from matches or [word]
        else:
            yield word


def full_batches(paths: Iterable[str]) -> Iterator[list[str]]:
    """Batches of `BATCH` paths; the last one may be smaller."""
    rest = iter(paths)
    while batch := list(islice(rest, BATCH)):
        yield batch


def as_they_come(paths: Iterable[str], busy: Callable[[], bool]) -> Iterator[list[str]]:
    """Batches of the paths that are there, for a source that may keep one waiting, such as a pipe.

    Whoever asks for a batch ahead of its use does not give out what is done while it waits for this one. So an empty
    batch is given where no path has come yet, as long as others are at work; the wait begins when none is.

    Args:
        paths: read by a thread, at most `_AHEAD` of them before their use.
        busy: whether paths that were given are not done yet.

    Yields:
        0 to `BATCH` paths.
    """
    arrived: Queue[str | Exception | None] = Queue(_AHEAD)

    def read() -> None:
        try:
            for path in paths:
                arrived.put(path)
            arrived.put(None)
        except Exception as error:  # whatever it is, it belongs to whoever asked for the paths
            arrived.put(error)

    Thread(target=read, daemon=True).start()
    batch: list[str] = []
    while True:
        try:
            path = arrived.get(timeout=_GRACE if batch or busy() else None)
        except Empty:
            yield batch
            batch = []
            continue
        if path is None:
            break
        if isinstance(path, Exception):
            raise path
        batch.append(path)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
