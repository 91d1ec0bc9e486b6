"""The images of a foreign source as files: those that it has within itself are written, the others must be there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import atomic_write, make_folder
from labeldep_cli.ingest.again import import_again
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.words import some

_UPWARDS = 2
"""Folders that a relative path goes up at most; an image farther away has an absolute path."""


def placed(foreign: Foreign, source: Path, out: Path, config: ImportConfig) -> Foreign:
    """A source whose images are all files.

    Args:
        foreign: the source as it was understood.
        source: where it was read from.
        out: the table that will be written; images within the source become files in a folder beside it.
        config: with `drop_broken`, rows whose image is missing are left out.

    Raises:
        DatasetError: images are missing, or two rows have one image.
        StorageError: an image cannot be written.
    """
    if foreign.images is not None:
        return _unpacked(foreign, out)
    rows = foreign.rows
    _require_different(rows, foreign.root, source)
    missing = [row for row, path in enumerate(rows.paths) if not os.path.isfile(foreign.root / path)]  # noqa: PTH113
    if not missing:
        return foreign
    if not config.drop_broken or len(missing) == len(rows.paths):
        raise _missing(foreign, missing, source, config)
    kept = sorted(set(range(len(rows.paths))).difference(missing))
    sentence = f"images that are missing, left out: {some([rows.paths[row] for row in missing])}"
    return replace(foreign, rows=subset(rows, kept), understood=(*foreign.understood, sentence))


def subset(rows: Rows, kept: Sequence[int]) -> Rows:
    """The given rows, in the given order."""
    return replace(
        rows,
        paths=[rows.paths[row] for row in kept],
        labels=rows.labels[kept],
        splits=None if rows.splits is None else [rows.splits[row] for row in kept],
        groups=None if rows.groups is None else [rows.groups[row] for row in kept],
        folds=None if rows.folds is None else [rows.folds[row] for row in kept],
    )


def written_path(image: Path, folder: Path) -> str:
    """The path of an image for a table in a folder: relative if it is near, else absolute."""
    absolute = Path.cwd() / image
    relative = _relative(str(absolute.parent), str(Path.cwd() / folder))
    return str(absolute) if relative is None else (Path(relative) / absolute.name).as_posix()


@lru_cache(maxsize=1 << 16)
def _relative(place: str, folder: str) -> str | None:
    try:
        relative = os.path.relpath(place, folder)
    except ValueError:  # another drive of Windows
        return None
    return relative if Path(relative).parts.count("..") <= _UPWARDS else None


def _unpacked(foreign: Foreign, out: Path) -> Foreign:
    """Write the images that a source has within itself; one that is there already with the same content stays.

    Raises:
        DatasetError: another file has the name of an image.
    """
    folder = out.parent / f"{out.stem}-images"
    for name, content in foreign.images or ():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DatasetError(f"the source has an image called {name!r}", "Rename it: it would be written elsewhere.")
        make_folder(file.parent)
        if file.exists():
            if file.read_bytes() != content:
                raise DatasetError(f"{file} exists already with another content", "Name another --out.")
            continue
        with atomic_write(file) as temporary:
            temporary.write_bytes(content)
    sentence = f"images written to {folder}: {len(foreign.rows.paths)}"
    return replace(foreign, root=folder, images=None, understood=(*foreign.understood, sentence))


def _require_different(rows: Rows, root: Path, source: Path) -> None:
    """Require that no two rows have one image.

    Raises:
        DatasetError: names the two.
    """
    first: dict[str, int] = {}
    for row, path in enumerate(rows.paths):
        full = os.path.normpath(root / path)
        if full in first:
            raise DatasetError(
                f"{source}: the rows {first[full] + 1} and {row + 1} have one image: {full}",
                "Name the folder that paths start from with --images-dir.",
            )
        first[full] = row


def _missing(foreign: Foreign, missing: list[int], source: Path, config: ImportConfig) -> DatasetError:
    """The error for images that are not there; it tells the path that was tried, and the cause where it shows."""
    n, path = len(foreign.rows.paths), foreign.rows.paths[missing[0]]
    start = config.images_dir or foreign.root
    remedy = f"{_cause(path, Path.cwd() / start)} --images-dir names the folder that paths start from."
    if len(missing) < n:
        remedy += f"\nTo leave out these images:\n{import_again(source, config, drop_broken=True)}"
    return DatasetError(
        f"{source}: {len(missing)} of {n} images are not found, such as {path!r}; tried {Path.cwd() / start / path}",
        remedy,
    )


def _cause(path: str, start: Path) -> str:
    """Why an image is not found, in a sentence."""
    if "://" in path:
        return "It is a URL: download the images first; they are then found by their names."
    if not start.is_dir():
        return f"There is no folder {start}."
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        return "The name has no ending such as .jpg: --suffix .jpg adds it."
    folder = (start / path).parent
    if not folder.is_dir():
        return f"There is no folder {folder}, and no image of this name in {start}."
    alike = next((f.name for f in folder.iterdir() if f.name.lower() == Path(path).name.lower()), None)
    return f"There is {alike!r}, in other letters." if alike else f"The folder {folder} has no such file."
