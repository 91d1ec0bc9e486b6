"""Write segments: an unfinished segment is filled row by row, and gets its final name when it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CacheError, StorageError
from labeldep_cli.features.store.checksums import CHECKSUM, of_rows, of_views
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.layout import allocate, lay_out, open_to_write, partial_of, segment_bytes, unwritable
from labeldep_cli.features.store.segment import Header, Part, header_of
from labeldep_cli.files import lock, publish, storage_error, storing

_BY_ROW = ("features", "contents", "skipped", "checksums", "done")
"""The arrays with a row for each image; those that an older version began have no checksums."""

LARGEST = 10**9
"""Approximate maximum size of a segment in bytes. After a kill, at most this much is copied."""


class Appender:
    """Appends rows to a store, in one segment after the other.

    Args:
        folder: folder of the store.
        part: the views to append.
        rows: maximum number of rows.
        shape: shape of one view's features.
        kind: kind of the store.
        versions: versions of the packages that compute the features.
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
        """Finish the current segment."""
        if self._writer is not None:
            self._writer.finish()
            self._writer = None

    def abandon(self) -> None:
        """Close the current segment after an error; written rows are kept."""
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def reserve(self) -> None:
        """Reserve the space of the first segment now, so that a full disk is reported before anything is computed."""
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
    """An unfinished segment. Rows are appended; `finish` gives the file its final name.

    Rows are written and flushed before the bits that mark them as done, so a kill -9 loses at most the rows in
    progress. Each row stores the SHA-256 of its image, so rows may come in any order.
    """

    def __init__(self, path: Path, part: Part, file: Any, locks: ExitStack) -> None:  # noqa: ANN401 - h5py is untyped
        self.path = path
        self.part = part
        self._file = file
        self._locks = locks
        self.filled = int(np.asarray(file["done"][:]).sum())

    @staticmethod
    def begin(
        folder: Path, part: Part, rows: int, shape: tuple[int, ...], kind: FeatureKind, versions: Mapping[str, str]
    ) -> SegmentWriter:
        """Create a segment with room for a number of rows.

        Args:
            folder: folder of the store.
            part: the views that it contains.
            rows: maximum number of rows.
            shape: shape of one view's features: (F,), or (S, F) for regions.
            kind: kind of the store.
            versions: versions of the packages that compute the features.

        Raises:
            StorageError: the folder is not writable, or the disk has no space.
        """
        path = _next_name(folder, part)
        locks = ExitStack()
        try:
            locks.enter_context(lock(_lock_of(path), str(path)))
            partial = partial_of(path)
            lay_out(partial, rows, shape, kind, Header(part, versions))
            return SegmentWriter(path, part, open_to_write(partial), locks)
        except BaseException:
            locks.close()
            raise

    @property
    def partial(self) -> Path:
        """The path of the file until it is complete."""
        return partial_of(self.path)

    @property
    def room(self) -> int:
        """The number of rows that can still be appended."""
        return len(self._file["done"]) - self.filled

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one view's features."""
        return tuple(self._file["features"].shape[2:])

    def append(self, contents: NDArray[np.bytes_], features: NDArray[np.float16], reasons: NDArray[np.uint8]) -> None:
        """Append rows.

        Args:
            contents: CONTENT [B], the images of the rows.
            features: float16 [B, V, *shape]; 0 for a row that is not usable.
            reasons: uint8 [B]; 0 for a usable row.

        Raises:
            StorageError: the disk is full; rows written before are kept.
        """
        rows = slice(self.filled, self.filled + len(features))
        with self._writing(self.partial):
            self._file["features"][rows] = features
            self._file["contents"][rows] = np.ascontiguousarray(contents).view(np.uint8).reshape(len(contents), -1)
            self._file["skipped"][rows] = reasons
            self._file["checksums"][rows] = of_views(features)
            self._file.flush()
            self._file["done"][rows] = 1
            self._file.flush()
        self.filled = rows.stop

    def finish(self) -> None:
        """Close the segment and give it its final name, without the unused rows.

        Raises:
            StorageError: the folder is not writable, or the disk has no space.
        """
        if self.room and self.filled:
            complete = self._trimmed()
        else:
            complete = self.partial
            with self._writing(self.partial):
                _sum_up(self._file)
        self._close()
        with storing(self.path):
            if self.filled:
                publish(complete, self.path)
            self.partial.unlink(missing_ok=True)
            _lock_of(self.path).unlink(missing_ok=True)
        self._locks.close()

    def abandon(self) -> None:
        """Close the file after an error, without raising another one; written rows are kept for the next process."""
        with suppress(OSError, RuntimeError):
            self._file.close()
        self._locks.close()

    def _trimmed(self) -> Path:
        """A copy of the segment with its filled rows only."""
        copy = self.path.with_name(f".{self.path.name}.writing")
        text = self._file["header"][()]
        try:
            with h5py.File(copy, "w", locking=False) as file:
                for name in [name for name in _BY_ROW if name in self._file]:
                    stored = self._file[name]
                    allocate(file, name, (self.filled, *stored.shape[1:]), stored.dtype)
                    for start in range(0, self.filled, 1024):
                        rows = slice(start, min(start + 1024, self.filled))
                        file[name][rows] = stored[rows]
                allocate(file, "header", (), f"S{len(text)}")
                if "sums" in self._file:
                    allocate(file, "sums", (2,), CHECKSUM)
                    _sum_up(file)
                file["header"][()] = text
        except (OSError, RuntimeError) as error:
            copy.unlink(missing_ok=True)
            raise unwritable(self.path, error) from error
        return copy

    def _close(self) -> None:
        with self._writing(self.partial):
            self._file.close()

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            raise unwritable(path, error) from error


def _sum_up(file: Any) -> None:  # noqa: ANN401 - h5py is untyped
    """Write the checksums of the rows' images; a segment that an older version began has no place for them."""
    if "sums" in file:
        file["sums"][:] = of_rows(np.asarray(file["contents"][:]), np.asarray(file["skipped"][:]))
        file.flush()


def rescue(partial: Path, kind: FeatureKind) -> int:
    """Finish a segment that a kill left unfinished; a segment that another process is writing is not touched.

    Returns:
        The number of rows that were rescued.

    Raises:
        StorageError: the folder is not writable, or the disk has no space.
    """
    path = partial.with_name(partial.name.removesuffix(".partial"))
    locks = ExitStack()
    try:
        locks.enter_context(lock(_lock_of(path), str(path), patience=0.0))
    except StorageError:
        return 0
    with locks:
        try:
            file = open_to_write(partial)
            header = header_of(file, partial, kind, "")
        except (CacheError, OSError) as error:
            if isinstance(error, OSError) and error.errno:  # HDF5 sets no errno if the content is not HDF5
                raise storage_error(partial, error) from error
            with storing(partial):
                partial.unlink(missing_ok=True)
                _lock_of(path).unlink(missing_ok=True)
            return 0
        writer = SegmentWriter(path, header.part, file, locks.pop_all())
        writer.finish()
        return writer.filled


def drop_idle_locks(folder: Path, part: Part) -> None:
    """Remove the locks of segments that have their final name: a kill just after that left them.

    Raises:
        StorageError: the folder is not writable.
    """
    for path in folder.glob(f".{part}-*.lock"):
        if not partial_of(folder / f"{path.stem[1:]}.h5").exists():  # a writer makes this file before the lock
            with storing(path):
                path.unlink(missing_ok=True)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.stem}.lock")


def _next_name(folder: Path, part: Part) -> Path:
    """Reserve the next number for a segment; safe if several processes do so at the same time."""
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
