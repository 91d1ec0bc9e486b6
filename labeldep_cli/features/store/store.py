"""A feature store: which images it contains, and where their features are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CacheError
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.segment import CONTENT, Part, Segment
from labeldep_cli.files import make_folder, storing, write_text
from labeldep_cli.schemas import conform, parse_json

KIND = "kind.json"
"""The file with the kind of the store."""

WEIGHTS = "weights.json"
"""The file that records where the weights were, as `--weights` takes them, so that the user need not repeat it."""

NOWHERE = -1


class RowLocations(NamedTuple):
    """The locations of images in a store.

    Attributes:
        segment: int64 [N], the number of the segment; NOWHERE for an image that is not in the store.
        row: int64 [N], the row in this segment.
        reason: uint8 [N]; the `Reason` why the row is not usable, or 0.
    """

    segment: NDArray[np.int64]
    row: NDArray[np.int64]
    reason: NDArray[np.uint8]

    @property
    def present(self) -> NDArray[np.bool_]:
        """Whether each image is in the store, usable or not: bool [N]."""
        return np.asarray(self.segment != NOWHERE)


@dataclass(frozen=True)
class FeatureStore:
    """The finished segments of a store at the time when it was opened.

    Attributes:
        folder: folder of the store; it may not exist yet.
        kind: everything except the images that its features depend on.
        command: the command that computes lost features again, for error messages.
    """

    folder: Path
    kind: FeatureKind
    command: str = "labeldep extract"

    @staticmethod
    def all_in(folder: Path) -> list[FeatureStore]:
        """The stores in a folder, sorted by name; other folders are ignored."""
        stores = []
        for path in sorted(folder.glob(f"*/{KIND}")):
            with suppress(OSError, ValueError):
                stores.append(FeatureStore(path.parent, FeatureKind.from_json(path.read_text(encoding="utf-8"))))
        return stores

    def create(self) -> None:
        """Create the folder, if it does not exist.

        Raises:
            StorageError: the folder is not writable.
        """
        make_folder(self.folder)
        if not (self.folder / KIND).exists():
            write_text(self.folder / KIND, self.kind.to_json() + "\n")

    def remember_weights(self, spec: str) -> None:
        """Record where the weights are, as `--weights` takes them.

        Raises:
            StorageError: the folder is not writable.
        """
        specs = list(dict.fromkeys((spec, *self.weights_specs())))
        if specs != self.weights_specs():
            write_text(self.folder / WEIGHTS, json.dumps(specs) + "\n")

    def weights_specs(self) -> list[str]:
        """The recorded places of the weights, the latest first; empty if none is recorded."""
        with suppress(OSError, ValueError):
            return conform(parse_json((self.folder / WEIGHTS).read_text(encoding="utf-8")), list[str])
        return []

    def segments(self, part: Part) -> tuple[Segment, ...]:
        """The segments of a part, the oldest first.

        Raises:
            CacheError: one of them is broken; names it.
        """
        return self._parts[part]

    @cached_property
    def _parts(self) -> dict[Part, tuple[Segment, ...]]:
        return {"test": self._open("test"), "crops": self._open("crops")}

    def _open(self, part: Part) -> tuple[Segment, ...]:
        return tuple(Segment.open(path, self.kind, self.command) for path in sorted(self.folder.glob(f"{part}-*.h5")))

    def partials(self, part: Part) -> list[Path]:
        """Unfinished segments: in progress, or left by a kill."""
        return sorted(self.folder.glob(f"{part}-*.h5.partial"))

    @cached_property
    def _orders(self) -> dict[Part, tuple[NDArray[np.bytes_], RowLocations]]:
        """By part: all images in ascending order, and their locations."""
        return {part: _order(self.segments(part)) for part in self._parts}

    @property
    def empty(self) -> bool:
        """Whether the store contains no image."""
        return not any(len(segment) for segment in self.segments("test"))

    def locate(self, contents: NDArray[np.bytes_], part: Part) -> RowLocations:
        """Find images in the store.

        Args:
            contents: CONTENT [N]; empty for an image whose bytes are not known.
            part: the views to find.
        """
        known, locations = self._orders[part]
        at = np.searchsorted(known, contents, side="right") - 1  # the last of equal entries is in the latest segment
        hit = (at >= 0) & (contents != b"")
        hit[hit] = known[at[hit]] == contents[hit]
        at = np.where(hit, at, 0)
        if not len(known):
            nowhere = np.full(len(contents), NOWHERE, np.int64)
            return RowLocations(nowhere, np.zeros_like(nowhere), np.zeros(len(contents), np.uint8))
        return RowLocations(
            np.where(hit, locations.segment[at], NOWHERE),
            np.where(hit, locations.row[at], 0),
            np.where(hit, locations.reason[at], 0).astype(np.uint8),
        )

    def drop_broken(self) -> None:
        """Remove segments that cannot be read.

        Raises:
            StorageError: the folder is not writable.
        """
        for path in sorted(self.folder.glob("*.h5")):
            try:
                Segment.open(path, self.kind, self.command)
            except CacheError:
                with storing(path):
                    path.unlink(missing_ok=True)

    def shape(self) -> tuple[int, ...] | None:
        """The shape of one view's features, (F,) or (S, F); None for an empty store."""
        return next((segment.shape for part in self._parts for segment in self.segments(part)), None)

    def drop_superseded(self) -> None:
        """Remove segments whose images are all in later segments too. Processes that have them open can read on.

        Raises:
            StorageError: the folder is not writable.
        """
        for part in self._parts:
            needed = set(self._latest(part).segment.tolist())
            for number, segment in enumerate(self.segments(part)):
                if number not in needed:
                    with storing(segment.path):
                        segment.path.unlink(missing_ok=True)

    def rows_to_keep(self, part: Part, gone: NDArray[np.bytes_]) -> list[NDArray[np.bool_]]:
        """Select the rows to keep: those of images that still exist; if an image has several rows, the latest.

        Args:
            part: which views.
            gone: CONTENT [G], images that no longer exist.

        Returns:
            By segment, bool [n].
        """
        kept = [np.zeros(len(segment), bool) for segment in self.segments(part)]
        latest = self._latest(part)
        for number, segment in enumerate(self.segments(part)):
            kept[number][latest.row[latest.segment == number]] = True
            kept[number] &= ~np.isin(segment.contents, gone)
        return kept

    def _latest(self, part: Part) -> RowLocations:
        """The location of each image's latest row."""
        known, locations = self._orders[part]
        last = np.append(known[1:] != known[:-1], True) if len(known) else np.zeros(0, bool)
        return RowLocations(locations.segment[last], locations.row[last], locations.reason[last])

    def reopened(self) -> FeatureStore:
        """The store, opened again, with the segments that exist now."""
        return FeatureStore(self.folder, self.kind, self.command)


def _order(segments: Sequence[Segment]) -> tuple[NDArray[np.bytes_], RowLocations]:
    """All images in ascending order, equal ones from the oldest segment to the latest; and their locations."""
    if not segments:
        nothing = np.zeros(0, np.int64)
        return np.empty(0, CONTENT), RowLocations(nothing, nothing, np.zeros(0, np.uint8))
    contents = np.concatenate([segment.contents for segment in segments])
    order = np.argsort(contents, kind="stable")
    numbers = np.repeat(np.arange(len(segments)), [len(segment) for segment in segments])
    rows = np.concatenate([np.arange(len(segment)) for segment in segments])
    reasons = np.concatenate([segment.reasons for segment in segments])
    return contents[order], RowLocations(numbers[order], rows[order], reasons[order])


def require_one_shape(store: FeatureStore, shape: tuple[int, ...]) -> None:
    """Refuse to add features of another shape to a store.

    Raises:
        CacheError: names both.
    """
    stored = store.shape()
    if stored is not None and stored != shape:
        raise CacheError(
            f"{store.folder} holds features of shape {list(stored)}, but the backbone gives {list(shape)} now",
            f"Move the folder away, and run: {store.command}",
        )
