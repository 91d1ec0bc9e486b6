"""The HDF5 file of a segment: created at full size, and opened so that a full disk raises an exception."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from labeldep_cli.errors import StorageError
from labeldep_cli.features.store.checksums import CHECKSUM
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.segment import CONTENT, VIEWS, Header, Part
from labeldep_cli.files import storage_error

_STRUCTURE = 16_384
"""An upper limit of the bytes that HDF5 writes in addition to the arrays."""


def segment_bytes(rows: int, part: Part, shape: tuple[int, ...]) -> int:
    """The size of a segment in bytes, without a few KiB of HDF5's structure."""
    return rows * (VIEWS[part] * (2 * int(np.prod(shape)) + CHECKSUM.itemsize) + CONTENT.itemsize + 2)


def partial_of(path: Path) -> Path:
    """The path of a segment while it is unfinished."""
    return path.with_name(path.name + ".partial")


def lay_out(partial: Path, rows: int, shape: tuple[int, ...], kind: FeatureKind, header: Header) -> None:
    """Create a segment at full size: contiguous arrays, with their disk space reserved.

    Raises:
        StorageError: the folder is not writable, or the disk has no space.
    """
    text = header.to_json(kind).encode()
    try:
        reserve_space(partial, segment_bytes(rows, header.part, shape) + len(text) + _STRUCTURE)
        with h5py.File(partial, "w", locking=False) as file:
            arrays: dict[str, tuple[tuple[int, ...], Any]] = {
                "features": ((rows, VIEWS[header.part], *shape), np.float16),
                "contents": ((rows, CONTENT.itemsize), np.uint8),
                "done": ((rows,), np.uint8),
                "skipped": ((rows,), np.uint8),
                "checksums": ((rows, VIEWS[header.part]), CHECKSUM),
                "sums": ((2,), CHECKSUM),
                "header": ((), f"S{len(text)}"),
            }
            for name, (dimensions, dtype) in arrays.items():
                allocate(file, name, dimensions, dtype)
            file.flush()
            file["header"][()] = text  # last: without it the file is not a segment
        reserve_space(partial, partial.stat().st_size)
    except (OSError, RuntimeError) as error:
        with suppress(OSError):  # probably the error that is being reported
            partial.unlink(missing_ok=True)
        raise unwritable(partial, error) from error


def reserve_space(partial: Path, size: int) -> None:
    """Reserve disk space for a file, in bytes: if the disk fills up while HDF5 writes, HDF5 crashes.

    Called before HDF5 creates the file, so that a full disk raises an exception, and again before the first row is
    computed, since HDF5 truncates the file when it creates it.
    """
    partial.touch()
    with partial.open("r+b") as stream:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(stream.fileno(), 0, size)


def open_to_write(partial: Path) -> Any:  # noqa: ANN401 - h5py is untyped
    """Open a segment to write more rows, without HDF5's buffer for small writes and without its lock.

    A write that waits in that buffer fails only when a data set is closed. No exception can be raised there, and HDF5
    crashes. HDF5's lock is a flock: decoding workers that survive a killed parent for some seconds keep it, and the
    finished rows would look unreadable. `files.lock` protects the segment instead.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_sieve_buf_size(0)
    access.set_file_locking(False, True)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)  # as in h5py.File
    return h5py.File(h5py.h5f.open(os.fsencode(partial), h5py.h5f.ACC_RDWR, access))


def allocate(file: Any, name: str, shape: tuple[int, ...], dtype: Any) -> None:  # noqa: ANN401 - h5py is untyped
    """Create a contiguous data set and allocate its space immediately; new space on the disk reads as zeros."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    h5py.h5d.create(
        file.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), h5py.h5s.create_simple(shape), creation
    )


def unwritable(path: Path, error: Exception) -> StorageError:
    """Turn an exception of HDF5 during a write into an error with a remedy."""
    return storage_error(path, error if isinstance(error, OSError) else OSError(str(error)))
