"""Removing rows from a store, or a store: what stays is written into new segments before the old ones go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.features.store.layout import segment_bytes
from labeldep_cli.features.store.segment import Part, Segment, opened
from labeldep_cli.features.store.store import KIND, WEIGHTS, FeatureStore
from labeldep_cli.features.store.write import SegmentWriter, rescue
from labeldep_cli.files import storing

LOCK = ".lock"
"""The file that who writes a store holds."""

PARTS: tuple[Part, ...] = ("crops", "test")
"""The crops go first: whole images without crops are a store as any other."""

_BLOCK = 64 * 2**20
"""Bytes that are copied at a time, about."""


class UnneededRows(NamedTuple):
    """Rows of a store that can go.

    Attributes:
        images: that are gone, and whose whole images or crops lie in the store.
        again: rows whose image was computed again later.
        bytes: of all these rows.
    """

    images: int
    again: int
    bytes: int


def unneeded_rows(store: FeatureStore, gone: NDArray[np.bytes_]) -> UnneededRows:
    """Count what `remove_rows` would remove.

    Args:
        store: the store.
        gone: CONTENT [G], images that nobody has any more.

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
    """Remove the rows of images that are gone, and those that count no more; the caller holds the store's lock.

    Segment by segment, what stays is written into a new one before the old one goes: all other rows are readable at
    every moment, and a kill leaves at most some of them twice.

    Raises:
        CacheError: a segment is broken.
        StorageError: the place is not writable, or lacks the room for one segment more.
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
    """Write some rows of a segment into a new one, bit for bit."""
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
    each = max(_BLOCK // segment_bytes(1, segment.part, segment.shape), 1)
    with opened(segment.path, command) as file:
        for start in range(0, len(segment), each):
            yield start, np.asarray(file["features"][start : start + each])


def leftovers(store: FeatureStore) -> list[Path]:
    """What kills left in a store that nobody writes: segments under way, and copies amid their writing."""
    return sorted([*store.folder.glob("*.h5.partial"), *store.folder.glob(".*.writing")])


def clear_leftovers(store: FeatureStore) -> None:
    """Make segments of what is complete of segments under way, and remove the rest; the caller holds the store's lock.

    Raises:
        StorageError: the place is not writable, or lacks the room.
    """
    for path in leftovers(store):
        if path.name.endswith(".partial"):
            rescue(path, store.kind)
        else:
            with storing(path):
                path.unlink(missing_ok=True)


def remove_store(store: FeatureStore) -> None:
    """Remove a store; the caller holds its lock. Files that are not the store's stay, and its folder with them.

    Raises:
        StorageError: the place is not writable.
    """
    segments = [path for part in PARTS for path in store.folder.glob(f"{part}-*.h5")]
    locks = [path for part in PARTS for path in store.folder.glob(f".{part}-*.lock")]
    # The name of the store last, so that after a kill it is known for one.
    for path in (
        *segments,
        *leftovers(store),
        *locks,
        store.folder / WEIGHTS,
        store.folder / KIND,
        store.folder / LOCK,
    ):
        with storing(path):
            path.unlink(missing_ok=True)
    if not any(store.folder.iterdir()):
        with storing(store.folder):
            store.folder.rmdir()
