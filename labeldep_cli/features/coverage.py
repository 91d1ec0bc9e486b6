"""What a store holds of a split's images, and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.image_file import key_of, state_of
from labeldep_cli.datasets.split import Split
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.decode import Identity
from labeldep_cli.features.images import Reason
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT, Part
from labeldep_cli.features.store.store import FeatureStore, RowLocations


@dataclass(frozen=True)
class SplitFiles:
    """Which images the rows of a split are, as far as it is known.

    Attributes:
        contents: CONTENT [N], the SHA-256 of each image's bytes; empty where the file has to be read to know.
        exists: bool [N], whether there is a file.
    """

    contents: NDArray[np.bytes_]
    exists: NDArray[np.bool_]

    @staticmethod
    def of(split: Split, known: KnownFiles) -> SplitFiles:
        """Look at a split's files, without reading them."""
        files = [split.file(row) for row in range(len(split))]
        states = [state_of(file) for file in files]
        found = known.contents(states, [key_of(file) for file in files])
        return SplitFiles(
            np.array([content or b"" for content in found], CONTENT),
            np.array([state is not None for state in states], bool),
        )

    @property
    def unknown(self) -> NDArray[np.int64]:
        """The rows whose file has to be read to know which image it is."""
        return np.flatnonzero(self.exists & (self.contents == b""))

    def recognised(self, rows: NDArray[np.int64], identities: Iterable[Identity | None]) -> SplitFiles:
        """The same with some more rows known, those whose file could be read."""
        contents = self.contents.copy()
        contents[rows] = [b"" if identity is None else identity.sha256 for identity in identities]
        return replace(self, contents=contents)


@dataclass(frozen=True)
class Coverage:
    """What a store holds of a split's images.

    Attributes:
        store: the store.
        split: the rows.
        reasons: uint8 [N]; why a row is known to have no features, else 0.
        locations: where the rows lie, by part.
        exists: bool [N], whether there is a file.
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
            files: which images they are.
            unusable: why images cannot be used, by their content.

        Raises:
            CacheError: a segment of the store is broken.
        """
        locations: dict[Part, RowLocations] = {"test": store.locate(files.contents, "test")}
        locations["crops"] = store.locate(files.contents, "crops")
        test = locations["test"]
        is_known = files.contents != b""
        reasons = np.where(~test.there & ~files.exists, np.uint8(Reason.MISSING), test.reason).astype(np.uint8)
        for row in np.flatnonzero(~test.there & is_known) if unusable else ():
            reasons[row] = unusable.get(bytes(files.contents[row]).ljust(CONTENT.itemsize, b"\0"), reasons[row])
        return Coverage(store, split, reasons, locations, files.exists)

    def lacking(self, part: Part) -> NDArray[np.int64]:
        """The rows whose views of this part have to be computed, ascending."""
        wanted = (self.reasons == 0) & ~self.locations[part].there
        return np.flatnonzero(wanted & self.exists if part == "crops" else wanted)

    @property
    def has_crops(self) -> bool:
        """Whether every usable row has its crops."""
        return bool(self.locations["crops"].there[self.reasons == 0].all())

    def cache(self, shape: tuple[int, ...]) -> FeatureCache:
        """The features of the split, none of which is lacking."""
        crops = self.locations["crops"] if self.has_crops and (self.reasons == 0).any() else None
        return FeatureCache(self.store, self.split, self.reasons, shape, self.locations["test"], crops)

    def with_reasons(self, rows: NDArray[np.int64], reasons: NDArray[np.uint8]) -> Coverage:
        """The same with why some rows could not be used, as it was found out when they were read."""
        merged = self.reasons.copy()
        unread = rows[reasons != 0]
        merged[unread] = reasons[reasons != 0]
        return replace(self, reasons=merged)

    def without_files(self) -> Coverage:
        """The same where rows whose crops can never be computed, their files being gone, count as missing."""
        gone = (self.reasons == 0) & ~self.locations["crops"].there & ~self.exists
        return replace(self, reasons=np.where(gone, np.uint8(Reason.MISSING), self.reasons).astype(np.uint8))
