"""The images in a folder, and what else is there, so that nothing is left out without a word."""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from PIL import Image

from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES
from labeldep_cli.features.reasons import is_heif

_BY_CONTENT = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "JPEG2000", "ICO")
"""Formats that are recognised by their first bytes in a file with another suffix."""

_WITHOUT_SUFFIX = (*_BY_CONTENT, "TIFF")
"""The same for a file without a suffix. With another one, a TIFF is a camera's raw data or a slide."""

_SHOWN = 5


@dataclass
class Contents:
    """What is in a folder and the folders in it.

    Attributes:
        images: paths of the images, sorted.
        others: number of files that are no images, by suffix.
        hidden: number of files and folders whose name begins with a dot; they are left out.
        closed: folders that cannot be listed.
    """

    images: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    closed: list[str] = field(default_factory=list)

    @property
    def left_out(self) -> str:
        """What is not labelled, in words: "not images: 3 files (.txt 2, .xml 1); hidden: 1"; empty if nothing is."""
        parts = []
        if self.others:
            ordered = sorted(self.others.items(), key=lambda item: (-item[1], item[0] == "", item[0]))
            kinds = [f"{suffix or 'without suffix'} {count}" for suffix, count in ordered]
            rest = [f"and {len(kinds) - _SHOWN} other kinds"] if len(kinds) > _SHOWN else []
            total = self.others.total()
            listed = ", ".join([*kinds[:_SHOWN], *rest])
            parts.append(f"not images: {total} {'file' if total == 1 else 'files'} ({listed})")
        if self.hidden:
            parts.append(f"hidden: {self.hidden}")
        if self.closed:
            parts.append(f"cannot be opened: {', '.join(self.closed[:_SHOWN])}")
        return "; ".join(parts)


def contents_of(folder: Path) -> Contents:
    """Search a folder for images. Each folder is visited once, also if links lead to it or around in a circle.

    A file is an image by its suffix, or if it has none or an unknown one, by its content. A link to nothing, a pipe or
    a device with an image's suffix is listed too, so that reading it tells what it is.
    """
    found = Contents()
    folders, links = deque([folder]), deque[Path]()  # own folders come first: images keep the path without a link
    visited: set[str] = set()
    while folders or links:
        current = (folders or links).popleft()
        real = os.path.realpath(current)
        if real in visited:
            continue
        visited.add(real)
        try:
            entries = sorted(current.iterdir())
        except OSError:
            found.closed.append(str(current))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                found.hidden += 1
            elif os.path.isdir(entry):  # noqa: PTH112 - Path.is_dir raises for a circle of links
                (links if entry.is_symlink() else folders).append(entry)
            elif entry.suffix.lower() in IMAGE_SUFFIXES or _is_image(entry):
                found.images.append(str(entry))
            else:
                found.others[entry.suffix.lower()] += 1
    found.images.sort(key=Path)
    return found


def _is_image(file: Path) -> bool:
    """Whether a regular file begins like an image."""
    if not os.path.isfile(file):  # noqa: PTH113 - as above; and a pipe must not be opened
        return False
    try:
        with file.open("rb") as stream:
            if is_heif(stream.read(64)):
                return True
            stream.seek(0)
            with Image.open(stream, formats=_known(_BY_CONTENT if file.suffix else _WITHOUT_SUFFIX)):
                return True
    except Exception:  # Pillow's readers raise many kinds on files that only begin like an image
        return False


@cache
def _known(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Those formats that this Pillow can read."""
    Image.init()
    return tuple(name for name in formats if name in Image.OPEN)
