"""Writing a cache: laid out at full size, filled group by group, named when complete."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import CacheError, StorageError
from labeldep_cli.features.cache.parts import partial_of
from labeldep_cli.features.cache.read import checked
from labeldep_cli.features.origin import Origin
from labeldep_cli.files import publish, storage_error, storing

_STRUCTURE = 16_384  # bytes: more than what HDF5 writes beside the arrays


class CacheWriter:
    """A cache in work. Open it with `CacheWriter.resume`, write all rows, then `finish`."""

    def __init__(self, path: Path, partial: Path, file: Any, origin: Origin) -> None:  # noqa: ANN401 - h5py is untyped
        self.path = path
        self.partial = partial
        self.origin = origin
        self._file = file

    @staticmethod
    def resume(
        path: Path,
        split: Split,
        shape: tuple[int, ...],
        origin: Origin,
        fresh: bool,
        command: str = "labeldep extract",
    ) -> CacheWriter:
        """Go on with the partial cache beside `path`, or start one.

        A leftover that cannot be read, or that other versions of the packages made, is replaced. A file that has its
        name already, as the finished parts of an unfinished cache have, goes back into work: no row of it is missing.

        Args:
            path: of the finished cache.
            split: the rows.
            shape: of one view's features: (F,), or (S, F) for regions.
            origin: what the cache is made from.
            fresh: start anew in any case.
            command: that makes this cache, for the message.

        Raises:
            CacheError: the leftover was made from something else, or holds another number of views.
            StorageError: the place is not writable, or lacks the room.
        """
        partial = partial_of(path)
        if path.exists() and not fresh:
            with storing(partial):
                path.replace(partial)
        if partial.exists() and not fresh:
            file, found = _leftover(partial)
            if found is not None and found.versions == origin.versions:
                if found.views != origin.views:
                    raise CacheError(
                        f"{partial} is unfinished with views {found.views}, wanted {origin.views}",
                        f"Finish it: {command} --views {found.views}\n"
                        f"or drop it: {command} --views {origin.views} --fresh",
                    )
                found.require_fits(origin, partial, f"{command} --fresh (which drops the unfinished cache)")
                if file["features"].shape == (len(split), origin.views, *shape):
                    return CacheWriter(path, partial, file, origin)
            if file is not None:
                file.close()
        with storing(partial):
            partial.unlink(missing_ok=True)
        return CacheWriter(path, partial, _lay_out(partial, split, shape, origin), origin)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one view's features: (F,), or (S, F) for regions."""
        return tuple(self._file["features"].shape[2:])

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which rows are written, bool [N]."""
        return np.asarray(self._file["done"][:]).astype(bool)

    @property
    def reasons(self) -> NDArray[np.uint8]:
        """Why rows were skipped so far, uint8 [N]."""
        return np.asarray(self._file["skipped"][:])

    def forget(self, rows: NDArray[np.bool_]) -> None:
        """Mark rows, bool [N], as not written, so that a kill does not bring their old reasons back.

        Raises:
            StorageError: the file cannot be written.
        """
        try:
            self._file["done"][:] = self.done & ~rows
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise unwritable(self.partial, error) from error

    def write(self, start: int, features: NDArray[np.float16], reasons: NDArray[np.uint8]) -> None:
        """Write a group of rows.

        Args:
            start: the first row.
            features: float16 [B, V, *shape]; 0 where skipped.
            reasons: uint8 [B].

        Raises:
            StorageError: the disk is full; the rows written before stay.
        """
        rows = slice(start, start + len(features))
        try:
            self._file["features"][rows] = features
            self._file["skipped"][rows] = reasons
            self._file.flush()
            self._file["done"][rows] = 1
            self._file.flush()
        except (OSError, RuntimeError) as error:
            raise unwritable(self.partial, error) from error

    def finish(self) -> None:
        """Close the cache and give it its name.

        Raises:
            CacheError: not all rows are written.
        """
        if not self.done.all():
            raise CacheError(
                f"{self.partial} is unfinished", "Run the same command again: it goes on where it stopped."
            )
        self.close()
        with storing(self.path):
            publish(self.partial, self.path)

    def close(self) -> None:
        """Close the file; what is written stays for the next run."""
        try:
            self._file.close()
        except (OSError, RuntimeError) as error:
            raise unwritable(self.partial, error) from error

    def abandon(self) -> None:
        """Close the file after an error, without a second one."""
        with suppress(OSError, RuntimeError):
            self._file.close()


def cache_bytes(split: Split, shape: tuple[int, ...], views: int) -> int:
    """The size of a cache in bytes, but for a few KiB of structure."""
    ids = max((len(path.encode()) for path in split.paths), default=1)
    return len(split) * (2 * views * math.prod(shape) + len(split.space) + ids + 2)


def _leftover(partial: Path) -> tuple[Any, Origin | None]:
    """Open what a kill left, if it is a cache: one killed while it was being laid out holds no work yet.

    Raises:
        StorageError: the system, not the file, keeps it from being opened.
    """
    try:
        file = _open_in_work(partial)
    except OSError as error:
        if error.errno:  # HDF5 names none where it is the content that it cannot make out
            raise storage_error(partial, error) from error
        return None, None
    try:
        return file, checked(file, partial, "")[0]
    except CacheError:
        return file, None


def _lay_out(partial: Path, split: Split, shape: tuple[int, ...], origin: Origin) -> Any:  # noqa: ANN401 - h5py is untyped
    n, ids, text = len(split), [path.encode() for path in split.paths], origin.to_json().encode()
    try:
        _take_room(partial, cache_bytes(split, shape, origin.views) + len(text) + _STRUCTURE)
        with h5py.File(partial, "w", locking=False) as file:
            arrays: dict[str, tuple[tuple[int, ...], Any]] = {
                "features": ((n, origin.views, *shape), np.float16),
                "labels": ((n, len(split.space)), np.int8),
                "ids": ((n,), f"S{max((len(name) for name in ids), default=1)}"),
                "done": ((n,), np.uint8),
                "skipped": ((n,), np.uint8),
                "origin": ((), f"S{len(text)}"),
            }
            for name, (dimensions, dtype) in arrays.items():
                _allocate(file, name, dimensions, dtype)
            file["labels"][:] = split.labels
            file["ids"][:] = np.array(ids, dtype=arrays["ids"][1])
            file.flush()
            file["origin"][()] = text  # last: without it the file is no cache yet
        _take_room(partial, partial.stat().st_size)
        return _open_in_work(partial)
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


def _open_in_work(partial: Path) -> Any:  # noqa: ANN401 - h5py is untyped
    """Open a cache to write on, without HDF5's buffer for small writes and without its lock.

    A write that waits in that buffer fails where a data set is closed, out of reach of an exception, and HDF5 then
    crashes. The lock is a flock: decoding workers that outlive a killed parent for some seconds keep it, and the work
    done would look unreadable. `files.lock` guards the cache.
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
