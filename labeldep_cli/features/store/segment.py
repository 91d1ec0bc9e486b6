"""A finished segment of a store: the features of some images in one HDF5 file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CacheError
from labeldep_cli.features.store.checksums import of_rows, of_views
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.schemas import conform, parse_json

Part = Literal["test", "crops"]
"""The views that a segment contains: view 0 ("test"), or all others ("crops")."""

VIEWS: Mapping[Part, int] = {"test": 1, "crops": N_VIEWS - 1}

CONTENT = np.dtype("S32")
"""The SHA-256 of an image's bytes. NumPy pads these with zeros before it compares them, so digests stay distinct."""

_GAP = 64
"""Rows. A gap of at most this size between two rows is read too, to save a second read."""

_BLOCK = 64 * 2**20
"""Bytes that are read at a time if the rows have to be sorted."""


@dataclass(frozen=True)
class Segment:
    """A finished segment.

    Attributes:
        path: its file.
        part: the views that it contains.
        contents: CONTENT [n], the image of each row.
        reasons: uint8 [n]; 0 for a usable row, else the `Reason` why its features do not fit into 16 bits.
        shape: shape of one view's features: (F,), or (S, F) for regions.
        versions: versions of the packages that made it.
    """

    path: Path
    part: Part
    contents: NDArray[np.bytes_]
    reasons: NDArray[np.uint8]
    shape: tuple[int, ...]
    versions: Mapping[str, str]

    @staticmethod
    def open(path: Path, kind: FeatureKind, command: str) -> Segment:
        """Open a segment; its features stay on the disk until they are requested.

        Args:
            path: its file.
            kind: kind of the store.
            command: the command that computes lost features again, for error messages.

        Raises:
            CacheError: the file is truncated, damaged, foreign, unfinished or of another kind.
        """
        with opened(path, command) as file, reading(path, command):
            header = header_of(file, path, kind, command)
            done = np.asarray(file["done"][:]).astype(bool)
            if not done.all():
                raise CacheError(f"{path} is unfinished: {int(done.sum())} of {len(done)} rows", f"Run: {command}")
            contents, reasons = np.asarray(file["contents"][:]), np.asarray(file["skipped"][:])
            if "sums" in file and not np.array_equal(of_rows(contents, reasons), file["sums"][:]):
                raise CacheError(f"{path} is damaged: it names other images than were written", f"Run: {command}")
            shape = tuple(file["features"].shape[2:])
            return Segment(path, header.part, as_contents(contents), reasons, shape, header.versions)

    def __len__(self) -> int:
        return len(self.contents)


@dataclass(frozen=True)
class Header:
    """The description that a segment stores of itself.

    Attributes:
        part: the views that it contains.
        versions: versions of the packages that made it; for information, never compared.
    """

    part: Part
    versions: Mapping[str, str]

    def to_json(self, kind: FeatureKind) -> str:
        """One line, keys in a fixed order."""
        value = {"kind": json.loads(kind.to_json()), "part": self.part, "versions": dict(self.versions)}
        return json.dumps(value, sort_keys=True, ensure_ascii=False)


class _HeaderRecord(TypedDict):
    kind: dict[str, Any]
    part: Part
    versions: dict[str, str]


def opened(path: Path, command: str) -> Any:  # noqa: ANN401 - h5py is untyped
    """Open a segment for reading, or raise a CacheError that names the command to compute it again."""
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise CacheError(f"there is no segment {path}", f"Run: {command}") from None
    except (OSError, RuntimeError) as error:
        raise CacheError(f"{path} is no readable HDF5 file (truncated or foreign)", f"Run: {command}") from error


@contextmanager
def reading(path: Path, command: str) -> Iterator[None]:
    """Turn what HDF5 raises for a damaged file into a CacheError that names the command to compute it again."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise CacheError(f"{path} cannot be read: {error}", f"Run: {command}") from error


def header_of(file: Any, path: Path, kind: FeatureKind, command: str) -> Header:  # noqa: ANN401 - h5py is untyped
    """The header of a segment, or CacheError for another HDF5 file."""
    try:
        value = conform(parse_json(file["header"][()]), _HeaderRecord)
        header = Header(value["part"], value["versions"])
        n, views, *shape = file["features"].shape
        shapes = (file["contents"].shape, file["done"].shape, file["skipped"].shape)
        fits = views == VIEWS[header.part] and len(shape) == 1 + kind.spatial and file["features"].dtype == np.float16
        if shapes != ((n, CONTENT.itemsize), (n,), (n,)) or not fits:
            raise ValueError("shapes do not agree")
    except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise CacheError(f"{path} is an HDF5 file, but no segment of features", f"Run: {command}") from error
    if value["kind"] != json.loads(kind.to_json()):
        other = value["kind"].get("backbone")
        raise CacheError(f"{path} holds features of {other}, not of this store", f"Run: {command}")
    return header


def as_contents(digests: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Digests uint8 [n, 32] as CONTENT [n]."""
    return np.ascontiguousarray(digests).view(CONTENT)[:, 0] if len(digests) else np.empty(0, CONTENT)


class StoredFeatures:
    """The features of an open segment, [n, V, *shape], checked as they are read.

    A segment of an older version has no checksums; of it only NaN and infinity are found.

    Args:
        file: the open segment.
        path: its path, for error messages.
        command: the command that computes lost features again, for error messages.

    Raises:
        CacheError: the checksums cannot be read.
    """

    def __init__(self, file: Any, path: Path, command: str) -> None:  # noqa: ANN401 - h5py is untyped
        self._stored = file["features"]
        self._path = path
        self._command = command
        with reading(self._path, self._command):
            self._sums = np.asarray(file["checksums"][:]) if "checksums" in file else None

    def read_rows(self, rows: NDArray[np.int64], into: NDArray[np.float16]) -> None:
        """Read rows, in any order.

        Args:
            rows: int64 [B].
            into: float16 [B, v, *shape]; receives the first v views of each row.

        Raises:
            CacheError: they cannot be read, have changed since they were written, or are not finite.
        """
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        limit = max(_BLOCK // max(2 * math.prod(into.shape[1:]), 1), 1)
        apart = np.flatnonzero(np.diff(ascending) > _GAP) + 1
        for run in np.split(np.arange(len(rows)), apart):
            for start in range(0, len(run), limit):
                part = run[start : start + limit]
                self._read_run(ascending[part], order[part], into)

    def read_view(self, row: int, view: int) -> NDArray[np.float16]:
        """Read one view of one row, float16 [*shape]; errors as for `read_rows`."""
        with reading(self._path, self._command):
            features = np.asarray(self._stored[row, view])
        self._require_sound(features[None, None], np.array([row]), slice(view, view + 1))
        return features

    def _read_run(self, rows: NDArray[np.int64], locations: NDArray[np.int64], into: NDArray[np.float16]) -> None:
        """Read ascending rows that are close together into their locations in `into`."""
        if len(rows) == 0:
            return
        first, end, views = int(rows[0]), int(rows[-1]) + 1, into.shape[1]
        begin, stop = int(locations[0]), int(locations[-1]) + 1
        contiguous = end - first == len(rows) == stop - begin and bool((np.diff(locations) == 1).all())
        with reading(self._path, self._command):
            if contiguous and into.flags.c_contiguous:
                self._stored.read_direct(into, np.s_[first:end, :views], np.s_[begin:stop])
            else:
                into[locations] = self._stored[first:end, :views][rows - first]
        self._require_sound(into[locations], rows, slice(views))

    def _require_sound(self, features: NDArray[np.float16], rows: NDArray[np.int64], views: slice) -> None:
        """Refuse features [k, v, *shape] of some rows and views that are not as they were written, or not finite."""
        if self._sums is not None:
            changed = (of_views(features) != self._sums[rows, views]).any(axis=1)
            if changed.any():
                raise CacheError(
                    f"{self._path} is damaged: row {int(rows[changed.argmax()])} has other features than were written",
                    f"Run: {self._command}",
                )
        broken = ~np.isfinite(features).all(axis=tuple(range(1, features.ndim)))
        if broken.any():
            raise CacheError(
                f"{self._path} holds NaN or infinite features, first in row {int(rows[broken.argmax()])}",
                f"Run: {self._command}",
            )
