"""A check that reads every image of a data set, to find unusable images and identical ones."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from labeldep_cli.compute.interruption import work_for_parent
from labeldep_cli.compute.shared_memory import usable_processes
from labeldep_cli.datasets.image_file import ImageFile, size_of
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.images import UnreadableImage, absence, decode_and_measure, read_content
from labeldep_cli.features.look import look_of
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.pixels import PixelFacts, facts_of
from labeldep_cli.progress import Reporter

_GROUP = 16
"""Images that a worker checks at a time. More would update the progress bar too rarely; fewer would cost more in
communication between processes."""


@dataclass(frozen=True)
class Duplicate:
    """Images whose files are identical byte by byte.

    Attributes:
        paths: the images, in the order of the splits.
        splits: the split of each.
    """

    paths: tuple[str, ...]
    splits: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether the images are in different splits, so that a test image may also be a training image."""
        return len(set(self.splits)) > 1

    def to_json(self) -> dict[str, Any]:
        """The group's record in the JSON of `labeldep data`."""
        return {"paths": list(self.paths), "splits": list(self.splits), "leaks": self.leaks}


@dataclass(frozen=True)
class ListedImage:
    """An image as its split lists it; `size` in bytes, None if there is no such file."""

    split: str
    path: str
    file: ImageFile
    size: int | None


@dataclass(frozen=True)
class ReadImage:
    """The result of reading an image.

    Attributes:
        reason: 0 for a good image, else a `Reason`.
        digest: the SHA-256 of a good file if it was requested.
        look: its perceptual hash (`look_of`); None if it is of one colour, or not good.
        pixels: what its pixels look like; None if they are unknown.
    """

    reason: int
    digest: bytes | None = None
    look: int | None = None
    pixels: PixelFacts | None = None


def listed_images(split: Split) -> Iterator[ListedImage]:
    """The images of a split in order, with the sizes of their files; no file is read."""
    for row, path in enumerate(split.paths):
        file = split.file(row)
        try:
            size: int | None = size_of(file)
        except (FileNotFoundError, NotADirectoryError):
            size = None
        except (OSError, ValueError):  # forbidden, or an impossible name: reading it will tell which
            size = 0
        yield ListedImage(split.name, path, file, size)


def read_all(listed: Sequence[ListedImage], rules: PixelRules, workers: int, reporter: Reporter) -> list[ReadImage]:
    """Read all images that exist; one `ReadImage` for each listed image, in order."""
    sizes = Counter(image.size for image in listed)
    existing = [image for image in listed if image.size is not None]
    tasks = [(image.file, image.size != 0 and sizes[image.size] > 1) for image in existing]
    groups = [tasks[start : start + _GROUP] for start in range(0, len(tasks), _GROUP)]
    read: list[ReadImage] = []
    workers = usable_processes(min(workers, len(groups)), reporter.note)
    with _reading(groups, rules, workers) as results, reporter.bar("checking images", len(listed), "images") as bar:
        bar.advance(len(listed) - len(existing))
        for group in results:
            read.extend(group)
            bar.advance(len(group))
    in_order = iter(read)
    return [ReadImage(absence(image.file)) if image.size is None else next(in_order) for image in listed]


@contextmanager
def _reading(
    groups: Sequence[Sequence[tuple[ImageFile, bool]]], rules: PixelRules, workers: int
) -> Iterator[Iterator[list[ReadImage]]]:
    """Read groups of images, in this process or in a pool of workers.

    The pool starts before the caller shows a progress bar, because a bar runs a thread.
    """
    read_group = partial(_read_group, rules)
    if workers == 0:
        yield map(read_group, groups)
        return
    pool = ProcessPoolExecutor(workers, initializer=work_for_parent)
    try:
        yield pool.map(read_group, groups)
    except BrokenProcessPool:
        raise DatasetError(
            "a process that read images died, perhaps because memory ran out",
            "Run it again with fewer --workers, or --workers 0.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _read_group(rules: PixelRules, group: Sequence[tuple[ImageFile, bool]]) -> list[ReadImage]:
    return [_read_one(file, rules, hashed) for file, hashed in group]


def _read_one(file: ImageFile, rules: PixelRules, hashed: bool) -> ReadImage:
    try:
        content = read_content(file)
        image, values = decode_and_measure(content, file, rules)
    except UnreadableImage as unreadable:
        facts = PixelFacts(values=unreadable.values) if unreadable.values else None
        return ReadImage(unreadable.reason, pixels=facts)
    grey = image.convert("L")
    digest = hashlib.sha256(content).digest() if hashed else None
    return ReadImage(0, digest, look_of(grey), facts_of(image, grey, values))


def duplicates_among(listed: Sequence[ListedImage], read: Sequence[ReadImage]) -> tuple[Duplicate, ...]:
    """Groups of identical files among images that were read; groups that span several splits come first."""
    same: defaultdict[bytes, list[ListedImage]] = defaultdict(list)
    for image, result in zip(listed, read, strict=True):
        if result.digest is not None:
            same[result.digest].append(image)
    groups = [
        Duplicate(tuple(image.path for image in group), tuple(image.split for image in group))
        for group in same.values()
        if len(group) > 1
    ]
    return tuple(sorted(groups, key=lambda group: not group.leaks))
