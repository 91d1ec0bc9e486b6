"""A segment under way: laid out at full size, filled from its first row on, named when complete."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CacheError, StorageError
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.segment import CONTENT, VIEWS, Header, Part, header_of
from labeldep_cli.files import lock, publish, storage_error, storing

_STRUCTURE = 16_384
"""Bytes: more than what HDF5 writes beside the arrays."""

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
            _lay_out(partial, rows, shape, kind, Header(part, versions))
            return SegmentWriter(path, part, _open_to_write(partial), held)
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
                    _allocate(file, name, (self.filled, *stored.shape[1:]), stored.dtype)
                    for start in range(0, self.filled, 1024):
                        rows = slice(start, min(start + 1024, self.filled))
                        file[name][rows] = stored[rows]
                _allocate(file, "header", (), f"S{len(text)}")
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
            file = _open_to_write(partial)
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


def segment_bytes(rows: int, part: Part, shape: tuple[int, ...]) -> int:
    """The size of a segment in bytes, but for a few KiB of structure."""
    return rows * (2 * VIEWS[part] * int(np.prod(shape)) + CONTENT.itemsize + 2)


def partial_of(path: Path) -> Path:
    """What a segment is called under way."""
    return path.with_name(path.name + ".partial")


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


def _lay_out(partial: Path, rows: int, shape: tuple[int, ...], kind: FeatureKind, header: Header) -> None:
    text = header.to_json(kind).encode()
    try:
        _take_room(partial, segment_bytes(rows, header.part, shape) + len(text) + _STRUCTURE)
        with h5py.File(partial, "w", locking=False) as file:
            arrays: dict[str, tuple[tuple[int, ...], Any]] = {
                "features": ((rows, VIEWS[header.part], *shape), np.float16),
                "contents": ((rows, CONTENT.itemsize), np.uint8),
                "done": ((rows,), np.uint8),
                "skipped": ((rows,), np.uint8),
                "header": ((), f"S{len(text)}"),
            }
            for name, (dimensions, dtype) in arrays.items():
                _allocate(file, name, dimensions, dtype)
            file.flush()
            file["header"][()] = text  # last: without it the file is no segment yet
        _take_room(partial, partial.stat().st_size)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):  # the same fault as the one being told
            partial.unlink(missing_ok=True)
        raise unwritable(partial, error) from error


def _take_room(partial: Path, size: int) -> None:
    """Have the system reserve a file's bytes: HDF5 cannot recover from a disk that fills up under it, and crashes.

    Called before HDF5 lays the file out (which cuts it to nothing again), so that a full disk is told by an exception,
    and again before the first row is computed.
    """
    partial.touch()
    with partial.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)


def _open_to_write(partial: Path) -> Any:  # noqa: ANN401 - h5py is untyped
    """Open a segment to write on, without HDF5's buffer for small writes and without its lock.

    A write that waits in that buffer fails where a data set is closed, out of reach of an exception, and HDF5 then
    crashes. The lock is a flock: decoding workers that outlive a killed parent for some seconds keep it, and the work
    done would look unreadable. `files.lock` guards the segment.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_sieve_buf_size(0)
    access.set_file_locking(False, True)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)  # as h5py.File has it
    return h5py.File(h5py.h5f.open(os.fsencode(partial), h5py.h5f.ACC_RDWR, access))


def _allocate(file: Any, name: str, shape: tuple[int, ...], dtype: Any) -> None:  # noqa: ANN401 - h5py is untyped
    """Create a contiguous data set with its room taken at once; fresh room on disk reads as zeros."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape), creation
    )


def unwritable(path: Path, error: Exception) -> StorageError:
    """What HDF5 raises while it writes, as an error that a user can mend."""
    return storage_error(path, error if isinstance(error, OSError) else OSError(str(error)))
