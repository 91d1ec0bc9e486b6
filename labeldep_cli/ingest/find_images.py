"""Find the image files that a foreign source names, where they really are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES
from labeldep_cli.files import expand_home


class ImageFinder:
    """Finds images by the names that a source gives them.

    Args:
        config: `images_dir` replaces the folders; `suffix` is added to the names.
        folders: folders that names may start from, in the order in which they are tried.
        searched: the folder that is searched as a whole for a file that is in none of them; the first one if None.
        moved: takes the images that were found under another path than the written one: the path by the written one.
    """

    def __init__(
        self,
        config: ImportConfig,
        folders: Sequence[Path],
        searched: Path | None = None,
        moved: dict[str, str] | None = None,
    ) -> None:
        self._folders = [Path.cwd() / folder for folder in ([config.images_dir] if config.images_dir else folders)]
        self._searched = self._folders[0] if config.images_dir or searched is None else Path.cwd() / searched
        self._suffix = config.suffix or ""
        self._moved = {} if moved is None else moved

    def find(self, name: str, *others: str) -> str:
        """The absolute path of an image.

        Args:
            name: as the source writes it: a path, perhaps of another machine, or a URL.
            others: further names that the file may have.

        Returns:
            The path; or, if there is no such file or there are several, `name` unchanged.
        """
        for look in (self._beside, self._below):
            for written in (name, *others):
                if found := next(filter(None, map(look, _spellings(self._ended(written)))), None):
                    if not found.endswith(name):
                        self._moved[name] = found
                    return found
        return name

    def _ended(self, name: str) -> str:
        return name if name.endswith(self._suffix) else name + self._suffix

    def _beside(self, name: str) -> str | None:
        """The file of this name in one of the folders; the folder of the last image is tried first."""
        for number, folder in enumerate(self._folders):
            file = os.path.join(folder, name)  # noqa: PTH118 - of a million names; Path is slow
            if os.path.isfile(file):  # noqa: PTH113
                self._folders.insert(0, self._folders.pop(number))
                return file
        return None

    def _below(self, name: str) -> str | None:
        """The file below the searched folder whose path ends most like this one; None if several do."""
        wanted = PurePosixPath(name)
        found = self._named.get(wanted.name, [])
        agreement = [_shared_end(wanted, path) for path in found]
        return str(found[agreement.index(max(agreement))]) if agreement.count(max(agreement, default=0)) == 1 else None

    @cached_property
    def _named(self) -> dict[str, list[Path]]:
        """All images below the searched folder, by name, and by name without the ending."""
        named: dict[str, list[Path]] = {}
        for path in images_below(self._searched):
            named.setdefault(path.name, []).append(path)
            named.setdefault(path.stem, []).append(path)
        return named


def images_below(folder: Path) -> Iterator[Path]:
    """The image files in a folder and its subfolders, in order; hidden ones are left out."""
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(parent) / name


def _spellings(name: str) -> Iterator[str]:
    """The ways to write a path here: as it is, without backslashes, without the percent signs and host of a URL."""
    yield name
    plain = name.replace("\\", "/")
    if "://" in plain:
        plain = urlsplit(plain).path.lstrip("/")
    if plain != name:
        yield plain
    if "%" in plain:
        yield unquote(plain)
    if plain.startswith("~"):
        yield str(expand_home(Path(plain)))


def _shared_end(one: PurePosixPath, other: Path) -> int:
    """The number of equal parts at the end of two paths, after the last one."""
    count = 0
    for a, b in zip(reversed(one.parts[:-1]), reversed(other.parts[:-1]), strict=False):
        if a != b:
            break
        count += 1
    return count
