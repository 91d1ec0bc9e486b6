"""Which features of a split's images a store holds, and which are missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.image_file import key_of, state_of
from labeldep_cli.datasets.split import Split
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.decode import Identity
from labeldep_cli.features.images import absence
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT, Part
from labeldep_cli.features.store.store import FeatureStore, RowLocations


@dataclass(frozen=True)
class SplitFiles:
    """The identity of the images of a split, as far as it is known without reading them.

    Attributes:
        contents: CONTENT [N], the SHA-256 of each image's bytes; empty if the file has to be read first.
        exists: bool [N], whether the file exists.
    """

    contents: NDArray[np.bytes_]
    exists: NDArray[np.bool_]

    @staticmethod
    def of(split: Split, known: KnownFiles) -> SplitFiles:
        """Look up the files of a split by path, size and time of change, without reading them."""
        files = [split.file(row) for row in range(len(split))]
        states = [state_of(file) for file in files]
        contents = known.contents(states, [key_of(file) for file in files])
        return SplitFiles(
            np.array([content or b"" for content in contents], CONTENT),
            np.array([state is not None for state in states], bool),
        )

    @property
    def unknown(self) -> NDArray[np.int64]:
        """The rows whose file has to be read to identify its image."""
        return np.flatnonzero(self.exists & (self.contents == b""))

    def recognised(self, rows: NDArray[np.int64], identities: Iterable[Identity | None]) -> SplitFiles:
        """A copy in which more rows are identified: those of `rows` whose file could be read."""
        contents = self.contents.copy()
        contents[rows] = [b"" if identity is None else identity.sha256 for identity in identities]
        return replace(self, contents=contents)


@dataclass(frozen=True)
class Coverage:
    """Which features of a split's images a store holds.

    Attributes:
        store: the store.
        split: the rows.
        reasons: uint8 [N]; why a row is known to have no features, else 0.
        locations: where the rows are stored, by part.
        exists: bool [N], whether the image file exists.
    """

    store: FeatureStore
    split: Split
    reasons: NDArray[np.uint8]
    locations: Mapping[Part, RowLocations]
    exists: NDArray[np.bool_]

    @staticmethod
    def of(store: FeatureStore, split: Split, files: SplitFiles, unusable: Mapping[bytes, int]) -> Coverage:
        """Look up the rows of a split.

        Args:
            store: the store.
            split: the rows.
            files: the identity of their images.
            unusable: `Reason` by SHA-256, for images that are known to be unusable.

        Raises:
            CacheError: a segment of the store is broken.
        """
        locations: dict[Part, RowLocations] = {"test": store.locate(files.contents, "test")}
        locations["crops"] = store.locate(files.contents, "crops")
        test = locations["test"]
        is_known = files.contents != b""
        reasons = test.reason.astype(np.uint8)
        for row in np.flatnonzero(~test.present & ~files.exists):
            reasons[row] = absence(split.file(int(row)))
        for row in np.flatnonzero(~test.present & is_known) if unusable else ():
            reasons[row] = unusable.get(bytes(files.contents[row]).ljust(CONTENT.itemsize, b"\0"), reasons[row])
        return Coverage(store, split, reasons, locations, files.exists)

    def missing_rows(self, part: Part) -> NDArray[np.int64]:
        """The rows whose views of this part have to be computed, ascending."""
        missing = (self.reasons == 0) & ~self.locations[part].present
        return np.flatnonzero(missing & self.exists if part == "crops" else missing)

    @property
    def has_crops(self) -> bool:
        """Whether every usable row has its crops."""
        return bool(self.locations["crops"].present[self.reasons == 0].all())

    def cache(self, shape: tuple[int, ...]) -> FeatureCache:
        """The features of the split, once none is missing."""
        crops = self.locations["crops"] if self.has_crops and (self.reasons == 0).any() else None
        return FeatureCache(self.store, self.split, self.reasons, shape, self.locations["test"], crops)

    def with_reasons(self, rows: NDArray[np.int64], reasons: NDArray[np.uint8]) -> Coverage:
        """A copy with the reasons, uint8 [R], why some of `rows` [R] could not be used; 0 changes nothing."""
        merged = self.reasons.copy()
        unread = rows[reasons != 0]
        merged[unread] = reasons[reasons != 0]
        return replace(self, reasons=merged)

    def without_files(self) -> Coverage:
        """A copy in which rows count as missing if their crops are not stored and their files no longer exist."""
        gone = (self.reasons == 0) & ~self.locations["crops"].present & ~self.exists
        return replace(self, reasons=np.where(gone, np.uint8(Reason.MISSING), self.reasons).astype(np.uint8))
