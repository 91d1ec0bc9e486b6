"""The parts of a cache: how rows are cut into files, what a part is called, and which of them lie beside a cache.

NAME.part-K-of-P.h5 is a cache of its own, of the K-th stretch of NAME.h5's rows. What was begun in P parts goes on in P
parts, by however many processes: nothing that was computed is dropped but by `--fresh`. A cache that one process began
is the case of one part, NAME.h5 itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.files import storing


@dataclass(frozen=True)
class Part:
    """A file of its own, and the rows of the split that it holds."""

    path: Path
    rows: slice


def cut(path: Path, n: int, group: int, count: int) -> tuple[Part, ...]:
    """Cut the n rows of a cache into `count` parts of whole groups; parts differ by one group at most."""
    if count == 1:
        return (Part(path, slice(0, n)),)
    groups = -(-n // group)
    bounds = [min(groups * k // count * group, n) for k in range(count + 1)]
    return tuple(
        Part(path.with_name(f"{path.stem}.part-{k}-of-{count}.h5"), slice(bounds[k], bounds[k + 1]))
        for k in range(count)
    )


def partial_of(path: Path) -> Path:
    """What a cache or a part is called in work."""
    return path.with_name(path.name + ".partial")


def begun(path: Path) -> int:
    """The number of parts in which an unfinished cache was begun; 0 where there is none."""
    if partial_of(path).exists():
        return 1
    return max(_pieces(path).values(), default=0)


def drop(path: Path) -> None:
    """Remove what was begun, for a fresh start; a finished cache stays until it is replaced, unless it is in parts.

    Raises:
        StorageError: the folder cannot be written.
    """
    pieces = _pieces(path)
    with storing(path):
        if pieces:
            path.unlink(missing_ok=True)  # first: over other parts it would hold other features than it says
        for piece in (*pieces, partial_of(path)):
            piece.unlink(missing_ok=True)


def tidy(path: Path, parts: tuple[Part, ...]) -> None:
    """Remove, beside a finished cache, what is left of other ways to cut it.

    Raises:
        StorageError: the folder cannot be written.
    """
    kept = {part.path for part in parts}
    with storing(path):
        for piece in (*_pieces(path), partial_of(path)):
            if piece not in kept:
                piece.unlink(missing_ok=True)


def _pieces(path: Path) -> dict[Path, int]:
    """The parts beside a cache, in work or finished, and of how many each is one."""
    name = re.compile(re.escape(path.stem) + r"\.part-\d+-of-(\d+)\.h5(?:\.partial)?")
    found = ((other, name.fullmatch(other.name)) for other in sorted(path.parent.iterdir()))
    return {other: int(match[1]) for other, match in found if match}
