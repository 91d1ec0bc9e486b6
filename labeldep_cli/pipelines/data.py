"""`labeldep data`: what a data set holds, and what is wrong with it, before hours are spent on it."""

from __future__ import annotations

import hashlib
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DownloadConfig, Machine, Source
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.image_file import ImageFile, size_of
from labeldep_cli.datasets.published import compared
from labeldep_cli.datasets.split import Dataset, Draw, Skipped, Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.images import Reason, UnreadableImage, read_image
from labeldep_cli.pipelines.download import download
from labeldep_cli.pipelines.mute import note_reach_after
from labeldep_cli.progress import Reporter

STRONGEST = 10
"""Co-occurrences reported."""

_GROUP = 16
"""Images a worker checks at a time: enough to outweigh the talk between processes, few enough for a lively bar."""


@dataclass(frozen=True)
class SplitReport:
    """One split of a data set.

    Attributes:
        images: rows of the split.
        on_disk: images that are there, readable or not; all rows of ready features.
        labels_per_image: mean number of present labels over the rows with any known label.
        label_counts: rows in which each label is present.
        unknown: label values that are unknown (-1).
    """

    images: int
    on_disk: int
    labels_per_image: float
    label_counts: Mapping[str, int]
    unknown: int

    def to_json(self) -> dict[str, Any]:
        """The split's record in the JSON of `labeldep data`."""
        return {
            "images": self.images,
            "on_disk": self.on_disk,
            "labels_per_image": self.labels_per_image,
            "label_counts": dict(self.label_counts),
            "unknown": self.unknown,
        }


@dataclass(frozen=True)
class Cooccurrence:
    """Two labels that go together.

    Attributes:
        labels: the two, in label order.
        count: rows with both.
        lift: how many times more rows have both than if the two were independent, over rows where both are known.
    """

    labels: tuple[str, str]
    count: int
    lift: float

    def to_json(self) -> dict[str, Any]:
        """The pair's record in the JSON of `labeldep data`."""
        return {"labels": list(self.labels), "count": self.count, "lift": self.lift}


@dataclass(frozen=True)
class Duplicate:
    """Images that are the same file byte by byte.

    Attributes:
        paths: the images, in the order of the splits.
        splits: the split of each.
    """

    paths: tuple[str, ...]
    splits: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether they lie in different splits: the test set then holds what was trained on."""
        return len(set(self.splits)) > 1

    def to_json(self) -> dict[str, Any]:
        """The group's record in the JSON of `labeldep data`."""
        return {"paths": list(self.paths), "splits": list(self.splits), "leaks": self.leaks}


@dataclass(frozen=True)
class DataReport:
    """What `labeldep data` found.

    Attributes:
        dataset: name of the data set.
        splits: train, val, test.
        n_labels: number of labels.
        held_out: val was drawn from train rather than brought by the data set.
        missing: images that a named data set lists and the disk lacks.
        unreadable: images that cannot be used, with the reason; for a user's own data, also those that are not there.
        duplicates: groups of identical files; those that cross splits come first.
        absent_labels: labels without any positive, for the splits that have such labels.
        cooccurrence: the pairs of labels with the highest lift, at most STRONGEST.
        notes: what was left out or drawn when the data set was loaded.
        published: how it compares with what its authors published, a sentence each; empty for a user's own.
    """

    dataset: str
    splits: Mapping[str, SplitReport]
    n_labels: int
    held_out: bool
    missing: tuple[str, ...]
    unreadable: tuple[Skipped, ...]
    duplicates: tuple[Duplicate, ...]
    absent_labels: Mapping[str, tuple[str, ...]]
    cooccurrence: tuple[Cooccurrence, ...]
    notes: tuple[str, ...]
    published: tuple[str, ...]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """All images that training would go without: the unreadable, then the missing."""
        return self.unreadable + tuple(Skipped(path, Reason.MISSING.text, missing=True) for path in self.missing)

    def to_json(self) -> dict[str, Any]:
        """The JSON of `labeldep data`; numbers are unrounded."""
        return {
            "dataset": self.dataset,
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "n_labels": self.n_labels,
            "held_out": self.held_out,
            "missing": list(self.missing),
            "unreadable": [skipped.to_json() for skipped in self.unreadable],
            "duplicates": [duplicate.to_json() for duplicate in self.duplicates],
            "absent_labels": {split: list(labels) for split, labels in self.absent_labels.items()},
            "cooccurrence": [pair.to_json() for pair in self.cooccurrence],
            "notes": [*self.notes, *self.published],
            "skipped": [skipped.to_json() for skipped in self.skipped],
        }


def data(
    data_dir: Path, source: Source, machine: Machine, reporter: Reporter, wish: DownloadConfig | None = None
) -> DataReport:
    """Load a data set and check it; where there is a wish, fetch first what it lacks.

    Raises:
        DatasetError: it is missing or malformed, so that there is nothing to count.
        DownloadError, StorageError: it cannot be fetched.
    """
    if wish is not None:
        download(data_dir, source, wish, reporter)
    draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
    dataset = registry.load(source.dataset, data_dir, draw, reporter)
    note_reach_after(None, len(dataset.space), reporter)
    return check(dataset, machine.n_workers, reporter)


def check(dataset: Dataset, workers: int, reporter: Reporter) -> DataReport:
    """Count a data set's labels, and read all of its images.

    Every image that is there is decoded in full; files of equal size are compared by their SHA-256. Ready features have
    no images to look at.

    Args:
        dataset: the data set.
        workers: processes that decode; 0 decodes in this one.
        reporter: takes the progress over images.

    Raises:
        DatasetError: a worker process died, as it does when memory runs out.
    """
    listed = [] if dataset.has_features else [image for split in dataset.splits.values() for image in _listed(split)]
    seen = _see_all(listed, workers, reporter) if listed else []
    skipped = [
        Skipped(image.path, Reason(what.reason).text, missing=dataset.named and what.reason == Reason.MISSING)
        for image, what in zip(listed, seen, strict=True)
        if what.reason
    ]
    absent = Counter(image.split for image, what in zip(listed, seen, strict=True) if what.reason == Reason.MISSING)
    return DataReport(
        dataset=dataset.name,
        splits={name: _describe(split, absent[name]) for name, split in dataset.splits.items()},
        n_labels=len(dataset.space),
        held_out="val" in dataset.drawn,
        missing=tuple(why.path for why in skipped if why.missing),
        unreadable=tuple(why for why in skipped if not why.missing),
        duplicates=_duplicates(listed, seen),
        absent_labels=_absent_labels(dataset),
        cooccurrence=strongest_cooccurrences(dataset),
        notes=dataset.notes,
        published=compared(dataset),
    )


def strongest_cooccurrences(dataset: Dataset) -> tuple[Cooccurrence, ...]:
    """The pairs of labels with the highest lift over all splits, at most STRONGEST.

    lift(a, b) = n n_ab / (n_a n_b), each count over the n rows in which both labels are known. Pairs seen together in
    fewer than max(5, 0.1 % of the rows) are left out, since chance alone lifts rare pairs most; so are pairs that are
    together no more often than by chance (lift <= 1).
    """
    names = dataset.space.names
    n_rows = sum(int((split.labels >= 0).any(axis=1).sum()) for split in dataset.splits.values())
    joint, single, known = (sum(counts) for counts in zip(*map(_pair_counts, dataset.splits.values()), strict=True))
    enough = np.triu(joint >= max(5, 0.001 * n_rows), k=1)
    first, second = np.nonzero(enough)
    lift = joint[enough] * known[enough] / (single[enough] * single.T[enough])  # [pairs]
    order = sorted(
        (i for i in range(len(lift)) if lift[i] > 1),
        key=lambda i: (-lift[i], -joint[first[i], second[i]], first[i], second[i]),
    )
    return tuple(
        Cooccurrence((names[first[i]], names[second[i]]), int(joint[first[i], second[i]]), float(lift[i]))
        for i in order[:STRONGEST]
    )


def _pair_counts(split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count rows by pairs of labels (a, b).

    Each count goes over the few rows that have label a. The matrix product that this amounts to takes numpy's BLAS a
    hundred times longer where other work keeps a core busy, since its threads wait for each other spinning.

    Returns:
        Three arrays [L, L]: both present; a present and b known; both known.
    """
    present, unknown = split.labels == 1, split.labels < 0
    joint = _rows_with_each(present, present)
    single = present.sum(axis=0)[:, None] - _rows_with_each(present, unknown)
    lacking = unknown.sum(axis=0)
    known = len(split) - lacking[:, None] - lacking[None, :] + _rows_with_each(unknown, unknown)
    return joint, single, known


def _rows_with_each(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[L, L]: the number of rows in which `first` [N, L] holds for label a and `second` [N, L] for label b."""
    counts = np.zeros((first.shape[1], second.shape[1]))
    if second.any():
        for a in range(first.shape[1]):
            counts[a] = second[first[:, a]].sum(axis=0)
    return counts


def _describe(split: Split, absent: int) -> SplitReport:
    counts = (split.labels == 1).sum(axis=0)
    annotated = int((split.labels >= 0).any(axis=1).sum())
    return SplitReport(
        images=len(split),
        on_disk=len(split) - absent,
        labels_per_image=float(counts.sum()) / max(annotated, 1),
        label_counts={name: int(count) for name, count in zip(split.space.names, counts, strict=True)},
        unknown=int((split.labels < 0).sum()),
    )


def _absent_labels(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    absent = {}
    for name, split in dataset.splits.items():
        labels = dataset.space.decode(~(split.labels == 1).any(axis=0)) if len(split) else ()
        if labels:
            absent[name] = labels
    return absent


@dataclass(frozen=True)
class _Listed:
    """An image as its split lists it; `size` in bytes, None where there is no such file."""

    split: str
    path: str
    file: ImageFile
    size: int | None


@dataclass(frozen=True)
class _Seen:
    """What reading an image gave: a `Reason` or 0, and the SHA-256 of a good file where it was asked for."""

    reason: int
    digest: bytes | None = None


def _listed(split: Split) -> Iterator[_Listed]:
    for row, path in enumerate(split.paths):
        file = split.file(row)
        try:
            size: int | None = size_of(file)
        except (FileNotFoundError, NotADirectoryError):
            size = None
        except (OSError, ValueError):  # forbidden, or no possible name: reading it says which
            size = 0
        yield _Listed(split.name, path, file, size)


def _see_all(listed: Sequence[_Listed], workers: int, reporter: Reporter) -> list[_Seen]:
    """Read all images that are there; one `_Seen` for each listed image, in order."""
    sizes = Counter(image.size for image in listed)
    there = [image for image in listed if image.size is not None]
    tasks = [(image.file, image.size != 0 and sizes[image.size] > 1) for image in there]
    groups = [tasks[start : start + _GROUP] for start in range(0, len(tasks), _GROUP)]
    seen: list[_Seen] = []
    with _reading(groups, workers) as results, reporter.bar("checking images", len(listed), "images") as bar:
        bar.advance(len(listed) - len(there))
        for group in results:
            seen.extend(group)
            bar.advance(len(group))
    in_order = iter(seen)
    return [_Seen(Reason.MISSING) if image.size is None else next(in_order) for image in listed]


@contextmanager
def _reading(groups: Sequence[Sequence[tuple[ImageFile, bool]]], workers: int) -> Iterator[Iterator[list[_Seen]]]:
    """Read groups of images, here or in a pool that starts before the caller draws a bar, since a bar has a thread."""
    workers = min(workers, len(groups))
    if workers == 0:
        yield map(_see_group, groups)
        return
    pool = ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        yield pool.map(_see_group, groups)
    except BrokenProcessPool:
        raise DatasetError(
            "a process that read images died, perhaps for want of memory",
            "Run it again with fewer --workers, or --workers 0.",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _see_group(group: Sequence[tuple[ImageFile, bool]]) -> list[_Seen]:
    return [_see(file, hashed) for file, hashed in group]


def _see(file: ImageFile, hashed: bool) -> _Seen:
    try:
        read_image(file)
        return _Seen(0, _digest(file) if hashed else None)
    except UnreadableImage as unreadable:
        return _Seen(unreadable.reason)
    except OSError:  # it went away between reading and hashing
        return _Seen(Reason.BROKEN)


def _digest(file: ImageFile) -> bytes:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _duplicates(listed: Sequence[_Listed], seen: Sequence[_Seen]) -> tuple[Duplicate, ...]:
    same: defaultdict[bytes, list[_Listed]] = defaultdict(list)
    for image, what in zip(listed, seen, strict=True):
        if what.digest is not None:
            same[what.digest].append(image)
    groups = [
        Duplicate(tuple(image.path for image in group), tuple(image.split for image in group))
        for group in same.values()
        if len(group) > 1
    ]
    return tuple(sorted(groups, key=lambda group: not group.leaks))
