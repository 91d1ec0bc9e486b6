"""How shards are called: patterns of many tars, and what a name says of its split."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from labeldep_cli.datasets.rows import own_name
from labeldep_cli.errors import DatasetError, nearest

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""What a pattern of shards ends in; the compressed ones are known in order to be refused with a remedy."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SPLIT = re.compile(r"(?<![a-z])(train|val|test)(?![a-z])")
_SHOWN = 3


def expand(pattern: str) -> Iterator[str]:
    """Write out `{000..099}` and `{a,b}` as a shell does, the first braces varying slowest; others stay as they are."""
    for braces in _BRACES.finditer(pattern):
        words = _alternatives(braces[1])
        if words:
            for word in words:
                yield from expand(pattern[: braces.start()] + word + pattern[braces.end() :])
            return
    yield pattern


def _alternatives(text: str) -> Sequence[str]:
    """What stands between braces, as words; none where it is neither a range nor a list."""
    ends = _RANGE.fullmatch(text)
    if ends is None:
        return text.split(",") if "," in text else ()
    first, last = int(ends[1]), int(ends[2])
    padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def find(pattern: Path) -> tuple[Path, ...]:
    """The tars that a pattern names: in its order, and sorted where it has `*`, `?` or `[...]`.

    Raises:
        DatasetError: a name that the pattern writes out is not there, or nothing is.
    """
    found: dict[str, None] = {}  # a set that keeps the order
    missing: list[str] = []
    for word in [str(pattern)] if pattern.is_file() else expand(str(pattern)):
        matches = [word] if Path(word).is_file() else sorted(glob.glob(word))  # noqa: PTH207 - it may be absolute
        found.update(dict.fromkeys(matches))
        if not matches:
            missing.append(word)
    if not found:
        raise DatasetError(f"there is no shard {pattern}", _beside(pattern))
    if missing:
        some = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DatasetError(
            f"{len(missing)} of the shards {pattern} are not there: {some}",
            "Fetch them, or name only those that are there: ranges {000..099}, lists {a,b} and * may stand together.",
        )
    return tuple(map(Path, found))


def _beside(pattern: Path) -> str:
    """A remedy for a pattern that matches nothing."""
    if not pattern.parent.is_dir():
        return f"Its folder {pattern.parent} does not exist either; quote a pattern, so that the shell leaves it alone."
    tars = sorted(path.name for path in pattern.parent.iterdir() if path.name.lower().endswith(SUFFIXES))
    return nearest(pattern.name, tars) if tars else f"The folder {pattern.parent} holds no .tar at all."


def split_in(name: str) -> str | None:
    """The split that a shard's name says: train, val or test as a word of its own (`miml-train-000.tar`), or None."""
    words = set(_SPLIT.findall(name.lower()))
    return words.pop() if len(words) == 1 else None


def dataset_name(pattern: Path) -> str:
    """Name a data set of shards: what its pattern begins with, plus six hex digits of the absolute pattern.

    `miml-{000..099}.tar` and `miml-*.tar` are `miml`; where nothing stands before the braces, the folder's name counts.
    """
    resolved = pattern.resolve()
    stems = (resolved.stem, *(folder.name for folder in resolved.parents))
    plain = (re.split(r"[{*?\[]", stem)[0].rstrip("-_. ") for stem in stems)
    return own_name(next(filter(None, plain), ""), resolved)
