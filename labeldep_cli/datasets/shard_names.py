"""Names of shards: patterns that name many tars, and split names within shard names."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from labeldep_cli.datasets.rows import name_with_digest
from labeldep_cli.datasets.split_words import SPLIT_WORDS
from labeldep_cli.errors import DatasetError, nearest

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""The endings of shard names. Compressed shards are recognised so that they are refused with a remedy."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_SPLIT = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_WORDS)})(?![a-z])")
_SHOWN = 3


def expand(pattern: str) -> Iterator[str]:
    """Expand `{000..099}` and `{a,b}` as a shell does; the first braces vary slowest. Other braces are not changed."""
    for braces in _BRACES.finditer(pattern):
        words = _alternatives(braces[1])
        if words:
            for word in words:
                yield from expand(pattern[: braces.start()] + word + pattern[braces.end() :])
            return
    yield pattern


def _alternatives(text: str) -> Sequence[str]:
    """The words that the text between braces stands for; empty if it is neither a range nor a list."""
    ends = _RANGE.fullmatch(text)
    if ends is None:
        return text.split(",") if "," in text else ()
    first, last = int(ends[1]), int(ends[2])
    padded = any(len(end) > 1 and end.startswith("0") for end in ends.groups())
    width = max(map(len, ends.groups())) if padded else 0
    step = 1 if first <= last else -1
    return [f"{number:0{width}d}" for number in range(first, last + step, step)]


def find(pattern: Path) -> tuple[Path, ...]:
    """The tars that a pattern names, in the order of the pattern; matches of `*`, `?` and `[...]` are sorted.

    Raises:
        DatasetError: a name that the pattern expands to does not exist, or none does.
    """
    shards: dict[str, None] = {}  # a set that keeps the order
    missing: list[str] = []
    for word in [str(pattern)] if pattern.is_file() else expand(str(pattern)):
        matches = [word] if Path(word).is_file() else sorted(glob.glob(word))  # noqa: PTH207 - it may be absolute
        shards.update(dict.fromkeys(matches))
        if not matches:
            missing.append(word)
    if not shards:
        raise DatasetError(f"there is no shard {pattern}", _no_match_remedy(pattern))
    if missing:
        examples = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
        raise DatasetError(
            f"{len(missing)} of the shards {pattern} are not there: {examples}",
            "Fetch them, or name only those that are there: ranges {000..099}, lists {a,b} and * may be combined.",
        )
    return tuple(map(Path, shards))


def _no_match_remedy(pattern: Path) -> str:
    """A remedy for a pattern that matches nothing."""
    if not pattern.parent.is_dir():
        return (
            f"Its folder {pattern.parent} does not exist; put a pattern in quotes to keep the shell from expanding it."
        )
    tars = sorted(path.name for path in pattern.parent.iterdir() if path.name.lower().endswith(SUFFIXES))
    return nearest(pattern.name, tars) if tars else f"The folder {pattern.parent} holds no .tar at all."


def split_in(name: str) -> str | None:
    """The split in a shard's name, as a separate word (`miml-train-000.tar`, `a-valid.tar`); None without one."""
    splits = {SPLIT_WORDS[word] for word in _SPLIT.findall(name.lower())}
    return splits.pop() if len(splits) == 1 else None


def dataset_name(pattern: Path) -> str:
    """Name a data set of shards: the start of its pattern, plus six hex digits of the absolute pattern.

    `miml-{000..099}.tar` and `miml-*.tar` start with `miml`. If nothing is before the braces, the folder's name counts.
    """
    resolved = pattern.resolve()
    stems = (resolved.stem, *(folder.name for folder in resolved.parents))
    plain = (re.split(r"[{*?\[]", stem)[0].rstrip("-_. ") for stem in stems)
    return name_with_digest(next(filter(None, plain), ""), resolved)
