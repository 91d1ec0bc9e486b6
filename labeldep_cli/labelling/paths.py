"""Expand the user's arguments to image paths, and group the paths into batches."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from queue import Empty, Queue
from threading import Thread

from labeldep_cli.labelling.folders import contents_of

BATCH = 32

_AHEAD = 8 * BATCH
_GRACE = 0.005  # maximum seconds that a batch waits for its next path


def expand(words: Iterable[str], note: Callable[[str], None]) -> Iterator[str]:
    """Expand arguments to image paths: files are kept, folders give the images in them, globs their matches, sorted.

    Args:
        words: the arguments.
        note: takes a sentence on what is left out of a folder.
    """
    for word in words:
        # os.path returns False where Path's methods raise: for a name that is too long, a folder without permission.
        if os.path.isdir(word):  # noqa: PTH112
            contents = contents_of(Path(word))
            if contents.left_out:
                note(f"{word}: {contents.left_out}")
            yield from contents.images
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
    """Batches of the paths that have arrived so far, for a source that may be slow, such as a pipe.

    The consumer requests batches ahead of their use, and yields no results while it waits for one. So an empty batch is
    yielded if no path has arrived while earlier batches are still in work. Only if none is, the generator waits.

    Args:
        paths: read by a thread, at most `_AHEAD` of them in advance.
        busy: whether paths of earlier batches are not finished yet.

    Yields:
        0 to `BATCH` paths.
    """
    arrived: Queue[str | Exception | None] = Queue(_AHEAD)

    def read() -> None:
        try:
            for path in paths:
                arrived.put(path)
            arrived.put(None)
        except Exception as error:  # any error is raised again in the consumer's thread
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
