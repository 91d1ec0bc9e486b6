"""Reading a finished cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.errors import CacheError
from labeldep_cli.features.images import Reason
from labeldep_cli.features.origin import Origin

_BLOCK = 4096
_GAP = 64  # rows: a hole that is read over rather than around
_ANEW = "labeldep extract --fresh"

Read = Callable[[NDArray[np.int64], NDArray[np.float16]], None]


@dataclass(frozen=True)
class FeatureCache:
    """A finished cache, whose length is that of its usable rows.

    Attributes:
        path: its file.
        origin: what it was made from.
        paths: names of all N rows of the split, those without features too.
        labels: theirs, int8 [N, L]; -1 where unknown.
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
    def open(path: Path | str, command: str = _ANEW) -> FeatureCache:
        """Open a finished cache; its features stay on disk until they are asked for.

        Args:
            path: its file.
            command: that makes it anew, for the messages.

        Raises:
            CacheError: the file is truncated, foreign or unfinished, or lacks one of its parts; it names the command
                that makes it anew.
        """
        path = Path(path)
        with reading(path, command) as file:
            origin, done = checked(file, path, command)
            if not done.all():
                raise CacheError(f"{path} is unfinished: {int(done.sum())} of {len(done)} rows", f"Run: {command}")
            cache = FeatureCache(
                path,
                origin,
                tuple(name.decode() for name in file["ids"][:]),
                file["labels"][:],
                file["skipped"][:],
                tuple(file["features"].shape[2:]),
            )
            parts = _parts(file, path)
        for part, rows in parts:
            cache._require_part(part, rows, command)
        return cache

    def __len__(self) -> int:
        return len(self.usable)

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the usable rows."""
        return tuple(self.paths[row] for row in self.usable)

    @property
    def space(self) -> LabelSpace:
        """The labels: `space.names` are in the order of the columns of `labels`."""
        return LabelSpace(self.origin.label_names)

    @property
    def usable(self) -> NDArray[np.int64]:
        """The rows that hold features, ascending."""
        return np.flatnonzero(self.reasons == 0)

    def row_bytes(self, views: int) -> int:
        """The bytes of a row's features, of so many views."""
        return 2 * views * math.prod(self.shape)

    def features(self, views: int = 1) -> NDArray[np.float16]:
        """Read the usable rows.

        Args:
            views: how many views, from view 0 on.

        Returns:
            float16 [usable rows, views, *shape].

        Raises:
            CacheError: features that are not finite.
        """
        n = len(self.usable)
        kept = np.empty((n, views, *self.shape), dtype=np.float16)
        with self.opened(views) as read:
            read(np.arange(n), kept)
        return kept

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The usable rows as a `TensorDataset` takes them: `TensorDataset(*cache.tensors())`.

        Returns:
            Features of view 0, the test transform, float32 [usable rows, *shape]; and their labels, float32
            [usable rows, L], -1 where unknown.

        Raises:
            CacheError: features that are not finite.
        """
        features, labels = self.features()[:, 0], self.labels[self.usable]
        return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels.astype(np.float32))

    @contextmanager
    def opened(self, views: int) -> Iterator[Read]:
        """Keep the file open, to read some of the usable rows at a time; one that replaces it meanwhile is not seen.

        Args:
            views: how many views, from view 0 on.

        Yields:
            A function (k, into) that reads the usable rows k, int64 [B] ascending, counted among the usable ones, into
            float16 [B, views, *shape].

        Raises:
            CacheError: the file cannot be read; features that are not finite.
        """
        usable = self.usable
        with reading(self.path, _ANEW) as file:

            def read(k: NDArray[np.int64], into: NDArray[np.float16]) -> None:
                rows, filled = usable[k], 0
                # In runs of the file's own rows, in blocks: memory is that of the rows asked for alone.
                apart = (np.diff(rows) > _GAP) | (np.diff(rows // _BLOCK) > 0)
                for run in np.split(rows, np.flatnonzero(apart) + 1):
                    self._read_run(file["features"], run, into[filled : filled + len(run)])
                    filled += len(run)

            yield read

    def _read_run(self, stored: Any, rows: NDArray[np.int64], into: NDArray[np.float16]) -> None:  # noqa: ANN401 - h5py
        """Read the rows of one run, which skipped rows may have left holes in."""
        if len(rows) == 0:
            return
        first, end = int(rows[0]), int(rows[-1]) + 1
        try:
            if end - first == len(rows):
                stored.read_direct(into, np.s_[first:end, : into.shape[1]])
            else:
                into[:] = stored[first:end, : into.shape[1]][rows - first]
        except (OSError, RuntimeError) as error:
            raise CacheError(f"{self.path} cannot be read: {error}", f"Run: {_ANEW}") from error
        self.require_finite(into, rows)

    def rows(self) -> CacheRows:
        """The usable rows to be read by index: memory is that of the rows asked for, whatever the cache holds."""
        return CacheRows(self)

    def _require_part(self, path: Path, rows: slice, command: str) -> None:
        """Refuse a part that is lost, broken, or another one than was joined: HDF5 would read on without a word.

        Raises:
            CacheError: names the part.
        """
        if not path.exists():
            raise CacheError(f"{self.path} lacks its part {path.name}", f"Put it back, or run: {command}")
        part = FeatureCache.open(path, command)
        theirs = (replace(part.origin, fingerprint=self.origin.fingerprint), part.paths, part.shape)
        if theirs != (self.origin, self.paths[rows], self.shape) or (part.reasons != self.reasons[rows]).any():
            raise CacheError(
                f"{path} is not the part that {self.path.name} was joined from", f"Put that back, or run: {command}"
            )

    def require_finite(self, block: NDArray[np.float16], rows: NDArray[np.int64]) -> None:
        """Refuse features [B, ...] of the given rows of the split that are not finite; CacheError names the first."""
        broken = ~np.isfinite(block).all(axis=tuple(range(1, block.ndim)))
        if broken.any():
            first = self.paths[int(rows[broken.argmax()])]
            raise CacheError(
                f"{self.path} holds NaN or infinite features, first in the row of {first}",
                f"Run: {_ANEW}",
            )

    def skipped(self, named: bool) -> tuple[Skipped, ...]:
        """The rows that hold no features, and why; `named`: the data set is a row of DATASETS."""
        return skipped_rows(self.paths, self.reasons, named)


class CacheRows:
    """The usable rows of a finished cache, read one by one.

    Its file stays open for as long as this lives; decoding workers that fork meanwhile never touch it.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._usable = cache.usable
        self._file = reading(cache.path, _ANEW)

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float16]:
        """Read one view a row.

        Args:
            rows: int64 [B], among the usable rows.
            views: int64 [B].

        Returns:
            float16 [B, *shape].

        Raises:
            CacheError: the file cannot be read any more, or features are not finite.
        """
        stored = self._usable[rows]
        block = np.empty((len(stored), *self._cache.shape), dtype=np.float16)
        try:
            features = self._file["features"]
            for k, (row, view) in enumerate(zip(stored, views, strict=True)):
                block[k] = features[int(row), int(view)]
        except (OSError, RuntimeError) as error:
            raise CacheError(f"{self._cache.path} cannot be read: {error}", f"Run: {_ANEW}") from error
        self._cache.require_finite(block, stored)
        return block


def read_origin(path: Path) -> Origin:
    """What a cache, finished or in work, was made from.

    Raises:
        CacheError: there is none, or it cannot be read.
    """
    with reading(path, _ANEW) as file:
        return checked(file, path, _ANEW)[0]


def skipped_rows(paths: Sequence[str], reasons: NDArray[np.uint8], named: bool) -> tuple[Skipped, ...]:
    """Name the rows whose reason is not 0."""
    return tuple(
        Skipped(paths[int(row)], Reason(int(reasons[row])).text, missing=named and int(reasons[row]) == Reason.MISSING)
        for row in np.flatnonzero(reasons)
    )


def reading(path: Path, command: str) -> Any:  # noqa: ANN401 - h5py is untyped
    """Open a cache to read from, or CacheError that names the command which makes it."""
    try:
        return h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise CacheError(f"there is no feature cache {path}", f"Run: {command}") from None
    except (OSError, RuntimeError) as error:
        raise CacheError(f"{path} is no readable HDF5 file (truncated or foreign)", f"Run: {command}") from error


def _parts(file: Any, path: Path) -> list[tuple[Path, slice]]:  # noqa: ANN401 - h5py is untyped
    """The files and rows of a joined cache's parts, in order; none for a cache of one file."""
    if not file["features"].is_virtual:
        return []
    found = []
    for source in file["features"].virtual_sources():
        first, last = source.vspace.get_select_bounds()
        found.append((path.with_name(source.file_name.replace("%%", "%")), slice(first[0], last[0] + 1)))
    return sorted(found, key=lambda part: part[1].start)


def checked(file: Any, path: Path, command: str) -> tuple[Origin, NDArray[np.bool_]]:  # noqa: ANN401 - h5py is untyped
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
