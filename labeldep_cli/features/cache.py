"""The features of a split: its rows and labels, joined with the stored features of their images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped, Split
from labeldep_cli.features.reasons import ABSENT, Reason
from labeldep_cli.features.store.segment import Part, StoredFeatures, opened
from labeldep_cli.features.store.store import FeatureStore, RowLocations
from labeldep_cli.features.views import N_VIEWS

Read = Callable[[NDArray[np.int64], NDArray[np.float16]], None]


@dataclass(frozen=True)
class FeatureCache:
    """The features of a split; `len` is the number of its usable rows. Features stay on disk until they are read.

    Attributes:
        store: the store that holds the features.
        split: rows, labels and label names, including the rows without features.
        reasons: uint8 [N]; 0 for a usable row, else a `Reason`.
        shape: of one view's features: (F,), or (S, F) for regions.
        test: where view 0 of each row is stored.
        crops: where the other views of each row are stored; None if any usable row lacks them.
    """

    store: FeatureStore
    split: Split
    reasons: NDArray[np.uint8]
    shape: tuple[int, ...]
    test: RowLocations
    crops: RowLocations | None

    def __len__(self) -> int:
        return len(self.usable)

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.store.folder

    @property
    def views(self) -> int:
        """How many views every usable row has: 1 or 21."""
        return 1 if self.crops is None else N_VIEWS

    @property
    def paths(self) -> Sequence[str]:
        """The names of all N rows."""
        return self.split.paths

    @property
    def labels(self) -> NDArray[np.int8]:
        """Labels of all rows, int8 [N, L]; -1 where unknown."""
        return self.split.labels

    @property
    def ids(self) -> tuple[str, ...]:
        """The names of the usable rows."""
        return tuple(self.paths[row] for row in self.usable)

    @property
    def space(self) -> LabelSpace:
        """The label space: `space.names` are in the order of the columns of `labels`."""
        return self.split.space

    @property
    def usable(self) -> NDArray[np.int64]:
        """The rows that have features, ascending."""
        return np.flatnonzero(self.reasons == 0)

    def row_bytes(self, views: int) -> int:
        """The bytes of one row's features with this many views."""
        return 2 * views * math.prod(self.shape)

    def features(self, views: int = 1) -> NDArray[np.float16]:
        """Read the usable rows.

        Args:
            views: how many views, from view 0 on.

        Returns:
            float16 [usable rows, views, *shape].

        Raises:
            CacheError: features cannot be read, or are not finite.
        """
        n = len(self.usable)
        kept = np.empty((n, views, *self.shape), dtype=np.float16)
        with self.opened(views) as read:
            read(np.arange(n), kept)
        return kept

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The usable rows as tensors, ready for `TensorDataset(*cache.tensors())`.

        Returns:
            Features of view 0 (the test transform), float32 [usable rows, *shape]; and labels, float32
            [usable rows, L], -1 where unknown.

        Raises:
            CacheError: features cannot be read, or are not finite.
        """
        features, labels = self.features()[:, 0], self.labels[self.usable]
        return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(labels.astype(np.float32))

    @contextmanager
    def opened(self, views: int) -> Iterator[Read]:
        """Keep the files open to read some of the usable rows at a time.

        Args:
            views: how many views, from view 0 on.

        Yields:
            A function (k, into) that reads rows into `into`, float16 [B, views, *shape]. `k`, int64 [B], holds
            positions among the usable rows.

        Raises:
            CacheError: features cannot be read, or are not finite.
        """
        usable = self.usable
        with ExitStack() as open_files:
            files = _Files(self, open_files)

            def read(k: NDArray[np.int64], into: NDArray[np.float16]) -> None:
                rows = usable[k]
                files.read("test", self.test, rows, into[:, :1])
                if views > 1:
                    files.read("crops", self._crops(), rows, into[:, 1:])

            yield read

    def rows(self) -> CacheRows:
        """A reader of usable rows by index. It needs memory for the rows that it reads, not for the store."""
        return CacheRows(self)

    def skipped(self, named: bool) -> tuple[Skipped, ...]:
        """The rows that have no features, and why; `named` says that the data set is a row of DATASETS."""
        return skipped_rows(self.paths, self.reasons, named)

    def _crops(self) -> RowLocations:
        if self.crops is None:
            raise ValueError("there are no crops")
        return self.crops


class CacheRows:
    """The usable rows of a split's features, read one by one.

    The files stay open as long as this object lives. Decoding workers that are forked meanwhile never use them.
    """

    def __init__(self, cache: FeatureCache) -> None:
        self._cache = cache
        self._usable = cache.usable
        self._files = _Files(cache, ExitStack())

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float16]:
        """Read one view of each row.

        Args:
            rows: int64 [B], positions among the usable rows.
            views: int64 [B], the view of each row.

        Returns:
            float16 [B, *shape].

        Raises:
            CacheError: features can no longer be read, or are not finite.
        """
        stored = self._usable[rows]
        block = np.empty((len(stored), *self._cache.shape), dtype=np.float16)
        for k, (row, view) in enumerate(zip(stored, views, strict=True)):
            if view:
                block[k] = self._files.read_one("crops", self._cache._crops(), int(row), int(view) - 1)
            else:
                block[k] = self._files.read_one("test", self._cache.test, int(row), 0)
        return block


class _Files:
    """The open segments of a split's features."""

    def __init__(self, cache: FeatureCache, closing: ExitStack) -> None:
        self._cache = cache
        self._closing = closing
        self._open: dict[Path, StoredFeatures] = {}

    def read(self, part: Part, locations: RowLocations, rows: NDArray[np.int64], into: NDArray[np.float16]) -> None:
        """Read the views of one part for some rows of the split."""
        numbers = locations.segment[rows]
        for number in np.unique(numbers):
            in_segment = np.flatnonzero(numbers == number)
            stored = self._stored(part, int(number))
            if len(in_segment) == len(rows):
                stored.read_rows(locations.row[rows], into)
                continue
            features = np.empty((len(in_segment), *into.shape[1:]), dtype=np.float16)
            stored.read_rows(locations.row[rows[in_segment]], features)
            into[in_segment] = features

    def read_one(self, part: Part, locations: RowLocations, row: int, view: int) -> NDArray[np.float16]:
        """Read one view of one row."""
        return self._stored(part, int(locations.segment[row])).read_view(int(locations.row[row]), view)

    def _stored(self, part: Part, number: int) -> StoredFeatures:
        path, command = self._cache.store.segments(part)[number].path, self._cache.store.command
        if path not in self._open:
            self._open[path] = StoredFeatures(self._closing.enter_context(opened(path, command)), path, command)
        return self._open[path]


def skipped_rows(paths: Sequence[str], reasons: NDArray[np.uint8], named: bool) -> tuple[Skipped, ...]:
    """The rows whose reason is not 0, with the reason in words."""
    return tuple(
        Skipped(paths[int(row)], Reason(int(reasons[row])).text, missing=named and int(reasons[row]) in ABSENT)
        for row in np.flatnonzero(reasons)
    )
