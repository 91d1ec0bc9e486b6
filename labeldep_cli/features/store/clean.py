"""Remove rows from a store, or a whole store. Rows to keep are copied into new segments before old ones are deleted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.features.store.layout import segment_bytes
from labeldep_cli.features.store.segment import VIEWS, Part, Segment, StoredFeatures, opened
from labeldep_cli.features.store.store import KIND, WEIGHTS, FeatureStore
from labeldep_cli.features.store.write import SegmentWriter, rescue
from labeldep_cli.files import storing

LOCK = ".lock"
"""The lock file of a store, held by the process that writes it."""

PARTS: tuple[Part, ...] = ("crops", "test")
"""In the order of removal. Crops come first: a store without crops is valid."""

_BLOCK = 64 * 2**20
"""Approximate number of bytes that are copied at a time."""


class UnneededRows(NamedTuple):
    """Rows of a store that can be removed.

    Attributes:
        images: number of images in the store that no longer exist.
        again: number of rows of other images that were computed again later.
        bytes: total size of all these rows.
    """

    images: int
    again: int
    bytes: int


def unneeded_rows(store: FeatureStore, gone: NDArray[np.bytes_]) -> UnneededRows:
    """Count what `remove_rows` would remove.

    Args:
        store: the store.
        gone: CONTENT [G], images that no longer exist.

    Raises:
        CacheError: a segment is broken.
    """
    images: set[bytes] = set()
    again = size = 0
    for part in PARTS:
        for segment, kept in zip(store.segments(part), store.rows_to_keep(part, gone), strict=True):
            of_gone = np.isin(segment.contents, gone)
            images.update(segment.contents[of_gone].tolist())
            again += int((~kept & ~of_gone).sum())
            size += segment_bytes(int((~kept).sum()), part, segment.shape)
    return UnneededRows(len(images), again, size)


def remove_rows(store: FeatureStore, gone: NDArray[np.bytes_]) -> None:
    """Remove the rows of images that no longer exist, and superseded rows; the caller holds the store's lock.

    In each segment, the rows to keep are written into a new segment before the old one is deleted. So all other rows
    are readable at every moment, and after a kill at most some of them are stored twice.

    Raises:
        CacheError: a segment is broken.
        StorageError: the folder is not writable, or the disk has no space for one more segment.
    """
    for part in PARTS:
        for segment, kept in zip(store.segments(part), store.rows_to_keep(part, gone), strict=True):
            if kept.all():
                continue
            if kept.any():
                _copy(store, segment, kept)
            with storing(segment.path):
                segment.path.unlink(missing_ok=True)


def _copy(store: FeatureStore, segment: Segment, kept: NDArray[np.bool_]) -> None:
    """Copy some rows of a segment into a new segment, unchanged."""
    writer = SegmentWriter.begin(
        store.folder, segment.part, int(kept.sum()), segment.shape, store.kind, segment.versions
    )
    try:
        for start, features in _blocks(segment, store.command):
            rows = np.flatnonzero(kept[start : start + len(features)])
            if len(rows):
                writer.append(segment.contents[start + rows], features[rows], segment.reasons[start + rows])
        writer.finish()
    except BaseException:
        writer.abandon()
        raise


def _blocks(segment: Segment, command: str) -> Iterator[tuple[int, NDArray[np.float16]]]:
    """Yield (first row, features of some rows) through all rows of a segment."""
    rows = max(_BLOCK // segment_bytes(1, segment.part, segment.shape), 1)
    with opened(segment.path, command) as file:
        stored = StoredFeatures(file, segment.path, command)
        for start in range(0, len(segment), rows):
            part = np.arange(start, min(start + rows, len(segment)))
            features = np.empty((len(part), VIEWS[segment.part], *segment.shape), np.float16)
            stored.read_rows(part, features)
            yield start, features


def leftovers(store: FeatureStore) -> list[Path]:
    """The files that kills left in a store: unfinished segments and unfinished copies. No process may be writing it."""
    return sorted([*store.folder.glob("*.h5.partial"), *store.folder.glob(".*.writing")])


def clear_leftovers(store: FeatureStore) -> None:
    """Turn the complete rows of unfinished segments into segments, remove the rest; the caller holds the store's lock.

    Raises:
        StorageError: the folder is not writable, or the disk has no space.
    """
    for path in leftovers(store):
        if path.name.endswith(".partial"):
            rescue(path, store.kind)
        else:
            with storing(path):
                path.unlink(missing_ok=True)


def remove_store(store: FeatureStore) -> None:
    """Remove a store; the caller holds its lock. Other files in the folder are kept, and then the folder too.

    Raises:
        StorageError: the folder is not writable.
    """
    segments = [path for part in PARTS for path in store.folder.glob(f"{part}-*.h5")]
    locks = [path for part in PARTS for path in store.folder.glob(f".{part}-*.lock")]
    own = (WEIGHTS, KIND, LOCK)
    # `kind.json` is removed near the end, so that the folder is still recognised as a store after a kill.
    for path in (*segments, *leftovers(store), *locks, *(store.folder / name for name in own)):
        with storing(path):
            path.unlink(missing_ok=True)
    if not any(store.folder.iterdir()):
        with storing(store.folder):
            store.folder.rmdir()
