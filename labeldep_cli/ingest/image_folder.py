"""ImageFolder: a folder for each label. An image with several labels has a copy in several folders."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import images_below
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.words import some

_OTHER_FORMS = {".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".parquet", ".npz", ".h5", ".tar", ".zip"}
_BLOCK = 1 << 20


def recognises(source: Path) -> bool:
    """Whether a folder has two folders of images or more, and no file that could have the labels."""
    if not source.is_dir() or any(file.suffix.lower() in _OTHER_FORMS for file in source.iterdir()):
        return False
    return sum(len(_folders(top)) for top in _tops(source)) > 1


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read `[train|val|test/]LABEL/image.jpg`.

    Copies of an image are recognised by their bytes, not by their names: 1.jpg in two folders may be two images.

    Raises:
        DatasetError: there is no folder with images, or an image cannot be read.
    """
    reading = Reading(source, config)
    tops = _tops(source)
    for top, split in tops.items():
        _read_top(top, split, reading)
    if any(tops.values()):
        named = [top.name for top in tops]
        reading.understood.append(f"folders that are splits, not labels: {some(named)}")
        others = [path.name for path in _subfolders(source) if path.name not in named and _has_image(path)]
        if others:
            reading.understood.append(f"folders beside the splits, left out: {some(others)}")
    else:
        _tell_outside(source, reading)
    return reading.finish(source)


def _tops(source: Path) -> dict[Path, str | None]:
    """The folders above the labels' folders, with their splits; `source` itself if no split has folders."""
    splits: dict[Path, str | None] = {
        path: split_of(path.name) for path in _subfolders(source) if split_of(path.name) and _folders(path)
    }
    return splits or {source: None}


def _subfolders(folder: Path) -> list[Path]:
    hidden = (".", "__MACOSX")
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(hidden))


def _folders(top: Path) -> list[Path]:
    """The labels' folders."""
    return [path for path in _subfolders(top) if _has_image(path)]


def _has_image(folder: Path) -> bool:
    return next(images_below(folder), None) is not None


def _read_top(top: Path, split: str | None, reading: Reading) -> None:
    folder_of = {path: folder.name for folder in _folders(top) for path in images_below(folder)}
    images = _same_content(folder_of)
    holders: dict[str, set[int]] = defaultdict(set)
    for number, files in enumerate(images):
        labels = {folder_of[file] for file in files} - set(reading.config.nothing)
        reading.entries.append(Entry(str(files[0].absolute()), dict.fromkeys(sorted(labels), 1), split=split))
        for file in files:
            holders[file.name].add(number)
    if copies := len(folder_of) - len(images):
        several = sum(len({folder_of[file] for file in files}) > 1 for files in images)
        reading.understood.append(
            f"{top.name}: files with the same bytes are one image: {copies} copies, "
            f"{several} images with several labels"
        )
    if different := [name for name, numbers in holders.items() if len(numbers) > 1]:
        reading.understood.append(
            f"{top.name}: files of one name with different bytes are different images: {some(different)}"
        )


def _same_content(files: Iterable[Path]) -> list[list[Path]]:
    """Groups of files with the same bytes, in order. Only files of the same size are read."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    groups: dict[tuple[int, bytes], list[Path]] = {}
    try:
        for file in files:
            by_size[file.stat().st_size].append(file)
        for size, alike in by_size.items():
            for file in alike:
                digest = _digest(file) if len(alike) > 1 else b""
                groups.setdefault((size, digest), []).append(file)
    except OSError as error:
        raise DatasetError(f"{error.filename} cannot be read: {error.strerror}", "Check the file.") from None
    return sorted(groups.values())


def _digest(file: Path) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()


def _tell_outside(source: Path, reading: Reading) -> None:
    """Tell of images that are in no label's folder."""
    outside = [path.name for path in images_below(source) if path.parent == source]
    if outside:
        reading.understood.append(f"images in no folder of a label, left out: {some(outside)}")
