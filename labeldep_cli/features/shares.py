"""The parts of one split's cache, shared out over the processes that compute together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labeldep_cli.compute.distributed import World
from labeldep_cli.datasets.split import Split
from labeldep_cli.features.cache import CacheWriter, Part, begun, cut, drop
from labeldep_cli.features.origin import Origin
from labeldep_cli.files import lock
from labeldep_cli.progress import Reporter


@dataclass(frozen=True)
class Share:
    """A part that this process writes: its rows as a split of their own, and its cache in work."""

    split: Split
    writer: CacheWriter


def plan(path: Path, n: int, group: int, fresh: bool, world: World, reporter: Reporter) -> tuple[Part, ...]:
    """Cut a split's rows into parts, in every process alike: as its unfinished cache was begun, else one a process.

    Args:
        path: of the cache.
        n: rows of the split.
        group: rows that pass the encoder together; no part splits one.
        fresh: drop what was begun.
        world: the processes; the first one looks and decides.
        reporter: told where some of them have nothing to do.

    Raises:
        StorageError: what was begun cannot be removed.
    """
    most = max(min(world.size, -(-n // group)), 1)
    if world.first and fresh:
        drop(path)
    count = world.broadcast((begun(path) if world.first else 0) or most)
    if count < most:
        reporter.note(
            f"{path} was begun by {count} process{'' if count == 1 else 'es'}: "
            f"{count} of {most} go on with it (--fresh begins anew with all)"
        )
    return cut(path, n, group, count)


@contextmanager
def shares(
    parts: Sequence[Part], split: Split, shape: tuple[int, ...], origin: Origin, fresh: bool, command: str
) -> Iterator[list[Share]]:
    """Open the caches in work of this process's parts; they are closed at the end of the block, however it ends.

    Each part has a lock of its own: a process may outlive the first one, which holds the whole cache's.

    Args:
        parts: this process's.
        split: all rows.
        shape: of one view's features: (F,), or (S, F) for regions.
        origin: of the whole cache.
        fresh: start anew in any case.
        command: that makes this cache, for messages.

    Raises:
        CacheError: a leftover was made from something else.
        StorageError: the place is not writable, lacks the room, or another process writes a part.
    """
    with ExitStack() as held:
        opened = []
        for part in parts:
            own = split
            if part.rows != slice(0, len(split)):
                own = split.subset(split.name, np.arange(part.rows.start, part.rows.stop))
                held.enter_context(lock(part.path.with_name(f".{part.path.stem}.lock"), str(part.path)))
            made_from = replace(origin, fingerprint=own.fingerprint)
            writer = CacheWriter.resume(part.path, own, shape, made_from, fresh, command)
            held.callback(writer.abandon)
            opened.append(Share(own, writer))
        yield opened
