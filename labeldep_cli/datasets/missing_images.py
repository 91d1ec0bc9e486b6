"""Paths of images that lead nowhere: what is wrong with them, and the command that mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.files import expand_home

_MOST_FOLDERS = 200
"""Folders that are searched for an image."""

_SAMPLED = 300
"""Rows that are looked at."""


def require_plain_paths(file: Path, paths: Sequence[str], lines: Sequence[int]) -> None:
    """Refuse rows whose path is a URL, and rows that begin with a `#` although no such file exists.

    Args:
        file: the table.
        paths: N paths.
        lines: the N lines that they are in.

    Raises:
        DatasetError: names the line.
    """
    for line, path in zip(lines, paths, strict=True):
        if "://" in path:
            what = f"the path {path!r} is a URL; labeldep reads images from the disk"
            doubt = _where_images_are(what, path, file.parent, "Download the images first.")
            raise replace(doubt, place=f"line {line}").error(file)
        if path.startswith("#") and not _exists(file.parent / path):
            raise Doubt(
                f"there is no image {path!r}: is the line a comment?",
                (Answer("If so", {}),),
                "If not, correct the path.",
                f"line {line}",
            ).error(file)


def require_some_images(dataset: Dataset) -> None:
    """Refuse a user's own data of which no image exists; at most the first rows of each split are looked at.

    Raises:
        DatasetError: names the path that was tried, and the cause where it shows.
    """
    if dataset.place is None or dataset.named or dataset.has_features:
        return
    splits = [split for split in dataset.splits.values() if len(split)]
    if any(split.members is not None for split in splits):
        return
    paths = [path for split in splits for path in split.paths[:_SAMPLED]]
    root = splits[0].root
    if not any(_exists(root / path) for path in paths):
        tried = Path(root / paths[0]).absolute()
        what = f"no image is there; the first one would be {tried}"
        raise _where_images_are(what, paths[0], root, "Check the paths.").error(dataset.place)


def _where_images_are(what: str, path: str, root: Path, otherwise: str) -> Doubt:
    """The question where images are, answered by the place at which one of them is found."""
    for folder in islice(_folders(root), _MOST_FOLDERS):
        for reason, written in _spellings(path):
            for suffix in ("", *_suffixes(written)):
                if _exists(folder / (written + suffix)):
                    return Doubt(
                        f"{what}; {_cause(reason, folder / (written + suffix), root, suffix)}",
                        (_answer(folder, root, suffix),),
                    )
    answer = Answer("With the folder of the images in place of FOLDER", {"images_dir": "FOLDER"})
    return Doubt(what, (answer,), otherwise)


def _answer(folder: Path, root: Path, suffix: str) -> Answer:
    flags = {"images_dir": None if folder == root else folder, "suffix": suffix or None}
    return Answer("To read it so", flags) if any(flags.values()) else TO_IMPORT


def _cause(reason: str, found: Path, root: Path, suffix: str) -> str:
    reasons = [reason] if reason else []
    if suffix:
        reasons.append("paths have no suffix")
    return f"{', '.join(reasons)}{': ' if reasons else ''}{found} exists"


def _spellings(path: str) -> Iterator[tuple[str, str]]:
    """Ways to read a path: what is odd about it, and how it reads then."""
    yield "", path
    if "\\" in path:
        path = path.replace("\\", "/")
        yield "paths have backslashes", path
    if path.startswith("~"):
        yield "paths begin with ~", str(expand_home(Path(path)))
    if "%" in path:
        yield "paths are encoded as in a URL", unquote(path)
    parts = Path(unquote(path.partition("://")[2]) if "://" in path else path).parts
    for first in range(1, len(parts)):
        yield f"the folder {'/'.join(parts[:first])} is not there", str(Path(*parts[first:]))


def _suffixes(path: str) -> list[str]:
    return [] if Path(path).suffix.lower() in IMAGE_SUFFIXES else sorted(IMAGE_SUFFIXES)


def _folders(root: Path) -> Iterator[Path]:
    """The folder of a table, the folders in it, and those beside it."""
    yield root
    for place in (root, root.absolute().parent):
        try:
            yield from sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            continue


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False
