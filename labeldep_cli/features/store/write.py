"""A segment under way: filled from its first row on, named when complete."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CacheError, StorageError
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.layout import allocate, lay_out, open_to_write, partial_of, segment_bytes, unwritable
from labeldep_cli.features.store.segment import Header, Part, header_of
from labeldep_cli.files import lock, publish, storage_error, storing

LARGEST = 10**9
"""Bytes of a segment, about: after a kill so much is copied at most."""


class Appender:
    """Appends rows to a store, one segment after the other.

    Args:
        folder: of the store.
        part: which views are appended.
        rows: so many at most.
        shape: of one view's features.
        kind: of the store.
        versions: of the packages that make them.
    """

    def __init__(
        self,
        folder: Path,
        part: Part,
        rows: int,
        shape: tuple[int, ...],
        kind: FeatureKind,
        versions: Mapping[str, str],
    ) -> None:
        self._begin = (folder, part, shape, kind, versions)
        self._rows = rows
        self._most = max(LARGEST // segment_bytes(1, part, shape), 1)
        self._writer: SegmentWriter | None = None

    def append(self, contents: NDArray[np.bytes_], features: NDArray[np.float16], reasons: NDArray[np.uint8]) -> None:
        """Append rows; arguments and errors as for `SegmentWriter.append`."""
        start = 0
        while start < len(features):
            writer = self._current()
            stop = min(start + writer.room, len(features))
            writer.append(contents[start:stop], features[start:stop], reasons[start:stop])
            self._rows -= stop - start
            start = stop

    def finish(self) -> None:
        """Finish the segment under way."""
        if self._writer is not None:
            self._writer.finish()
            self._writer = None

    def abandon(self) -> None:
        """Close the segment under way after an error; what is written stays."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def reserve(self) -> None:
        """Take the room of the first segment now, so that a full disk is told before anything is computed."""
        if self._rows:
            self._current()

    def _current(self) -> SegmentWriter:
        if self._writer is not None and not self._writer.room:
            self.finish()
        if self._writer is None:
            folder, part, shape, kind, versions = self._begin
            self._writer = SegmentWriter.begin(folder, part, min(self._rows, self._most), shape, kind, versions)
        return self._writer


class SegmentWriter:
    """A segment under way. Rows are appended; `finish` gives the file its name.

    Rows are written and flushed before their bits are set and flushed, so that a kill -9 loses at most the rows under
    way. Which image a row is stands in the file: a row may be any image's.
    """

    def __init__(self, path: Path, part: Part, file: Any, held: ExitStack) -> None:  # noqa: ANN401 - h5py is untyped
        self.path = path
        self.part = part
        self._file = file
        self._held = held
        self.filled = int(np.asarray(file["done"][:]).sum())

    @staticmethod
    def begin(
        folder: Path, part: Part, rows: int, shape: tuple[int, ...], kind: FeatureKind, versions: Mapping[str, str]
    ) -> SegmentWriter:
        """Begin a segment with room for so many rows.

        Args:
            folder: of the store.
            part: which views it is for.
            rows: at most so many are appended.
            shape: of one view's features: (F,), or (S, F) for regions.
            kind: of the store.
            versions: of the packages that make it.

        Raises:
            StorageError: the place is not writable, or lacks the room.
        """
        path = _next_name(folder, part)
        held = ExitStack()
        try:
            held.enter_context(lock(_lock_of(path), str(path)))
            partial = partial_of(path)
            lay_out(partial, rows, shape, kind, Header(part, versions))
            return SegmentWriter(path, part, open_to_write(partial), held)
        except BaseException:
            held.close()
            raise

    @property
    def partial(self) -> Path:
        """What the file is called until it is complete."""
        return partial_of(self.path)

    @property
    def room(self) -> int:
        """Rows that can still be appended."""
        return len(self._file["done"]) - self.filled

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view's features."""
        return tuple(self._file["features"].shape[2:])

    def append(self, contents: NDArray[np.bytes_], features: NDArray[np.float16], reasons: NDArray[np.uint8]) -> None:
        """Append rows.

        Args:
            contents: CONTENT [B], which images they are.
            features: float16 [B, V, *shape]; 0 where not usable.
            reasons: uint8 [B]; 0 for a usable row.

        Raises:
            StorageError: the disk is full; the rows written before stay.
        """
        rows = slice(self.filled, self.filled + len(features))
        try:
            self._file["features"][rows] = features
            self._file["contents"][rows] = np.ascontiguousarray(contents).view(np.uint8).reshape(len(contents), -1)
            self._file["skipped"][rows] = reasons
            self._file.flush()
            self._file["done"][rows] = 1
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise unwritable(self.partial, error) from error
        self.filled = rows.stop

    def finish(self) -> None:
        """Close the segment and give it its name; room that was not needed is given back.

        Raises:
            StorageError: the place is not writable, or lacks the room.
        """
        complete = self._trimmed() if self.room and self.filled else self.partial
        self._close()
        with storing(self.path):
            if self.filled:
                publish(complete, self.path)
            self.partial.unlink(missing_ok=True)
            _lock_of(self.path).unlink(missing_ok=True)
        self._held.close()

    def abandon(self) -> None:
        """Close the file after an error, without a second one; what is written stays for the next process."""
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._held.close()

    def _trimmed(self) -> Path:
        """A copy of the rows that are there."""
        copy = self.path.with_name(f".{self.path.name}.writing")
        text = self._file["header"][()]
        try:
            with h5py.File(copy, "w", locking=False) as file:
                for name in ("features", "contents", "skipped", "done"):
                    stored = self._file[name]
                    allocate(file, name, (self.filled, *stored.shape[1:]), stored.dtype)
                    for start in range(0, self.filled, 1024):
                        rows = slice(start, min(start + 1024, self.filled))
                        file[name][rows] = stored[rows]
                allocate(file, "header", (), f"S{len(text)}")
                file["header"][()] = text
        except (OSError, RuntimeError) as error:
            copy.unlink(missing_ok=True)
            raise unwritable(self.path, error) from error
        return copy

    def _close(self) -> None:
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            raise unwritable(self.partial, error) from error


def rescue(partial: Path, kind: FeatureKind) -> int:
    """Make a segment of what a kill left of one; nothing happens to one that another process writes.

    Returns:
        The rows that were rescued.

    Raises:
        StorageError: the place is not writable, or lacks the room.
    """
    path = partial.with_name(partial.name.removesuffix(".partial"))
    held = ExitStack()
    try:
        held.enter_context(lock(_lock_of(path), str(path), patience=0.0))
    except StorageError:
        return 0
    with held:
        try:
            file = open_to_write(partial)
            header = header_of(file, partial, kind, "")
        except (CacheError, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # HDF5 names none where it cannot make out the content
                raise storage_error(partial, error) from error
            with storing(partial):
                partial.unlink(missing_ok=True)
                _lock_of(path).unlink(missing_ok=True)
            return 0
        writer = SegmentWriter(path, header.part, file, held.pop_all())
        writer.finish()
        return writer.filled


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.lock")


def _next_name(folder: Path, part: Part) -> Path:
    """Claim the next number, in whichever of several processes."""
    taken = [int(path.name.split("-")[1].split(".")[0]) for path in folder.glob(f"{part}-*.h5*")]
    number = max(taken, default=0) + 1
    while True:
        path = folder / f"{part}-{number:06d}.h5"
        with storing(path):
            try:
                partial_of(path).touch(exist_ok=False)
            except FileExistsError:
                number += 1
                continue
        return path
