"""The feature cache: all that knows HDF5.

A cache holds, for the N rows of one split: `features` f16 [N, V, F] (or [N, V, S, F]: S regions of the last feature
map, for heads that look at places), `labels` i8 [N, L], `ids` (UTF-8), `done` (u1 [N]: 1 when the row is written) and
`skipped` (u1 [N]: 0, or the `Reason` why the row's image could not be used; its features are then 0). `origin` is a
JSON string that says what it was made from; no attribute, since those end at 64 KiB and label names may be many. View 0
is the test transform.

In work it is called NAME.h5.partial: the default library version, contiguous storage, allocated up front; rows are
written and flushed before their bits are set and flushed, so that a kill -9 loses at most the rows under way.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped, Split
from labeldep_cli.errors import CacheError, DatasetError, StorageError
from labeldep_cli.features.images import Reason
from labeldep_cli.features.origin import Origin
from labeldep_cli.files import publish, storage_error, storing

_STRUCTURE = 16_384  # bytes: more than what HDF5 writes beside the arrays
_BLOCK = 4096


@dataclass(frozen=True)
class FeatureCache:
    """A finished cache.

    Attributes:
        path: its file.
        origin: what it was made from.
        paths: N row names.
        labels: int8 [N, L].
        reasons: uint8 [N]; 0 for a usable row, else a `Reason`.
        shape: of one view's features: (F,), or (S, F) for regions.
    """

    path: Path
    origin: Origin
    paths: tuple[str, ...]
    labels: NDArray[np.int8]
    reasons: NDArray[np.uint8]
    shape: tuple[int, ...]

    @staticmethod
    def open(path: Path, command: str = "labeldep extract --fresh") -> FeatureCache:
        """Open a finished cache; its features stay on disk until `features` is called.

        Raises:
            CacheError: the file is truncated, foreign or unfinished; it names the command that makes it anew.
        """
        with _reading(path, command) as file:
            origin, done = _checked(file, path, command)
            if not done.all():
                raise CacheError(f"{path} is unfinished: {int(done.sum())} of {len(done)} rows", f"Run: {command}")
            return FeatureCache(
                path,
                origin,
                tuple(name.decode() for name in file["ids"][:]),
                file["labels"][:],
                file["skipped"][:],
                tuple(file["features"].shape[2:]),
            )

    @property
    def space(self) -> LabelSpace:
        """The labels."""
        return LabelSpace(self.origin.label_names)

    @property
    def usable(self) -> NDArray[np.int64]:
        """The rows that hold features, ascending."""
        return np.flatnonzero(self.reasons == 0)

    def features(self, views: int = 1) -> NDArray[np.float16]:
        """Read the usable rows.

        Args:
            views: how many views, from view 0 on.

        Returns:
            float16 [usable rows, views, *shape].

        Raises:
            CacheError: features that are not finite.
        """
        usable = self.reasons == 0
        kept = np.empty((int(usable.sum()), views, *self.shape), dtype=np.float16)
        filled = 0
        with _reading(self.path, "labeldep extract --fresh") as file:
            for start in range(0, len(usable), _BLOCK):  # in blocks: memory is that of the usable rows alone
                rows = slice(start, start + _BLOCK)
                if usable[rows].any():
                    block = file["features"][rows, :views][usable[rows]]
                    self._require_finite(block, np.flatnonzero(usable[rows]) + start)
                    kept[filled : filled + len(block)] = block
                    filled += len(block)
        return kept

    def _require_finite(self, block: NDArray[np.float16], rows: NDArray[np.int64]) -> None:
        broken = ~np.isfinite(block.reshape(len(block), -1)).all(axis=1)
        if broken.any():
            first = self.paths[int(rows[broken.argmax()])]
            raise CacheError(
                f"{self.path} holds NaN or infinite features, first in the row of {first}",
                "Run: labeldep extract --fresh",
            )

    def skipped(self, named: bool) -> tuple[Skipped, ...]:
        """The rows that hold no features, and why; `named`: the data set is a row of DATASETS."""
        return skipped_rows(self.paths, self.reasons, named)


def read_origin(path: Path) -> Origin:
    """What a cache, finished or in work, was made from.

    Raises:
        CacheError: there is none, or it cannot be read.
    """
    with _reading(path, "labeldep extract --fresh") as file:
        return _checked(file, path, "labeldep extract --fresh")[0]


def skipped_rows(paths: Sequence[str], reasons: NDArray[np.uint8], named: bool) -> tuple[Skipped, ...]:
    """Name the rows whose reason is not 0."""
    return tuple(
        Skipped(paths[int(row)], Reason(int(reasons[row])).text, missing=named and int(reasons[row]) == Reason.MISSING)
        for row in np.flatnonzero(reasons)
    )


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

        A leftover that cannot be read, or that other versions of the packages made, is replaced.

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
        partial = path.with_name(path.name + ".partial")
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
            raise _unwritable(self.partial, error) from error

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
            raise _unwritable(self.partial, error) from error

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
            raise _unwritable(self.partial, error) from error

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
        return file, _checked(file, partial, "")[0]
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
        raise _unwritable(partial, error) from error


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


def _unwritable(path: Path, error: Exception) -> StorageError:
    return storage_error(path, error if isinstance(error, OSError) else OSError(str(error)))


def _reading(path: Path, command: str) -> Any:  # noqa: ANN401 - h5py is untyped
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise CacheError(f"there is no feature cache {path}", f"Run: {command}") from None
    except (OSError, RuntimeError) as error:
        raise CacheError(f"{path} is no readable HDF5 file (truncated or foreign)", f"Run: {command}") from error


def _checked(file: Any, path: Path, command: str) -> tuple[Origin, NDArray[np.bool_]]:  # noqa: ANN401 - h5py is untyped
    """The origin and the row bitmap of a cache, or CacheError for another HDF5 file."""
    try:
        origin = Origin.from_json(file["origin"][()].decode())
        n, views, *each = file["features"].shape
        shapes = (file["labels"].shape, file["ids"].shape, file["done"].shape, file["skipped"].shape)
        fits = views == origin.views and len(each) == 1 + origin.spatial
        if shapes != ((n, len(origin.label_names)), (n,), (n,), (n,)) or not fits:
            raise ValueError("shapes do not agree")
        return origin, np.asarray(file["done"][:]).astype(bool)
    except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise CacheError(f"{path} is an HDF5 file, but no labeldep feature cache", f"Run: {command}") from error


def read_ready_features(path: Path) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...], tuple[str, ...] | None]:
    """Read a user's own features from HDF5.

    Args:
        path: a file with `X` [N, F], `Y` [N, L], `label_names` [L] and optionally `split` [N].

    Returns:
        X, Y, label names, split names or None; as stored, for the caller to check.

    Raises:
        DatasetError: the file is no HDF5 file, or lacks one of the arrays.
    """
    try:
        with h5py.File(path, "r") as file:
            absent = [name for name in ("X", "Y", "label_names") if name not in file]
            if absent:
                raise DatasetError(
                    f"{path} holds no {', '.join(absent)}", "It needs X [N, F], Y [N, L] and label_names [L]."
                )
            split = _texts(file["split"]) if "split" in file else None
            return file["X"][:], file["Y"][:], _texts(file["label_names"]), split
    except (OSError, RuntimeError) as error:
        raise DatasetError(f"{path} is no readable HDF5 file (truncated or foreign)", "Write it anew.") from error
    except (TypeError, ValueError) as error:  # a group or a single number where an array belongs; names not in UTF-8
        raise DatasetError(
            f"{path} holds no arrays as expected: {error}",
            "It needs X [N, F], Y [N, L] and label_names [L] in UTF-8, and optionally split [N].",
        ) from error


def _texts(stored: Any) -> tuple[str, ...]:  # noqa: ANN401 - h5py is untyped
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in stored[:])
