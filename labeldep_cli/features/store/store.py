"""A store as a whole: which images it holds, and where."""

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

KIND = "kind.json"
"""The file that says what a folder is the store of."""

WEIGHTS = "weights.json"
"""The file that says where the weights lay, as `--weights` takes them: it saves the user saying so again."""

NOWHERE = -1


class RowLocations(NamedTuple):
    """Where images lie in a store.

    Attributes:
        segment: int64 [N], the number of the segment; NOWHERE for an image that is not there.
        row: int64 [N], its row there.
        reason: uint8 [N]; why the row is not usable, or 0.
    """

    segment: NDArray[np.int64]
    row: NDArray[np.int64]
    reason: NDArray[np.uint8]

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which images are in the store, usable or not."""
        return np.asarray(self.segment != NOWHERE)


@dataclass(frozen=True)
class FeatureStore:
    """The finished segments of a store, as they were when it was opened.

    Attributes:
        folder: of the store; it may not exist yet.
        kind: what its features depend on.
        command: that makes lost features anew, for the messages.
    """

    folder: Path
    kind: FeatureKind
    command: str = "labeldep extract"

    @staticmethod
    def all_in(folder: Path) -> list[FeatureStore]:
        """The stores in a folder, by name; other folders are passed over."""
        found = []
        for path in sorted(folder.glob(f"*/{KIND}")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found.append(FeatureStore(path.parent, FeatureKind.from_json(path.read_text(encoding="utf-8"))))
        return found

    def create(self) -> None:
        """Make the folder, where it is missing.

        Raises:
            StorageError: the place is not writable.
        """
        make_folder(self.folder)
        if not (self.folder / KIND).exists():
            write_text(self.folder / KIND, self.kind.to_json() + "\n")

    def remember_weights(self, spec: str) -> None:
        """Remember where the weights lie, as `--weights` takes them.

        Raises:
            StorageError: the place is not writable.
        """
        specs = list(dict.fromkeys((spec, *self.weights_specs())))
        if specs != self.weights_specs():
            write_text(self.folder / WEIGHTS, json.dumps(specs) + "\n")

    def weights_specs(self) -> list[str]:
        """Where the weights lay, the last place first; none where nobody knows."""
        with suppress(OSError, ValueError):
            specs = json.loads((self.folder / WEIGHTS).read_text(encoding="utf-8"))
            if isinstance(specs, list):
                return [spec for spec in specs if isinstance(spec, str)]
        return []

    def segments(self, part: Part) -> tuple[Segment, ...]:
        """The segments of one part, the oldest first.

        Raises:
            CacheError: one of them is broken; names it.
        """
        return self._parts[part]

    @cached_property
    def _parts(self) -> dict[Part, tuple[Segment, ...]]:
        return {"test": self._opened("test"), "crops": self._opened("crops")}

    def _opened(self, part: Part) -> tuple[Segment, ...]:
        return tuple(Segment.open(path, self.kind, self.command) for path in sorted(self.folder.glob(f"{part}-*.h5")))

    def partials(self, part: Part) -> list[Path]:
        """Segments under way, or left by a kill."""
        return sorted(self.folder.glob(f"{part}-*.h5.partial"))

    @cached_property
    def _orders(self) -> dict[Part, tuple[NDArray[np.bytes_], RowLocations]]:
        """By part, all images, ascending, and where they lie."""
        return {part: _order(self.segments(part)) for part in self._parts}

    @property
    def empty(self) -> bool:
        """Whether there is no image in it."""
        return not any(len(segment) for segment in self.segments("test"))

    def locate(self, contents: NDArray[np.bytes_], part: Part) -> RowLocations:
        """Where images lie.

        Args:
            contents: CONTENT [N]; empty for an image whose bytes are not known.
            part: which views.
        """
        known, locations = self._orders[part]
        at = np.searchsorted(known, contents, side="right") - 1  # of equal ones the last: the latest segment's
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
        """Remove segments that cannot be read: no feature can be had from them.

        Raises:
            StorageError: the place is not writable.
        """
        for path in sorted(self.folder.glob("*.h5")):
            try:
                Segment.open(path, self.kind, self.command)
            except CacheError:
                with storing(path):
                    path.unlink(missing_ok=True)

    def shape(self) -> tuple[int, ...] | None:
        """Of one view's features, (F,) or (S, F); None for an empty store."""
        return next((segment.shape for part in self._parts for segment in self.segments(part)), None)

    def drop_superseded(self) -> None:
        """Remove segments all of whose images lie in later ones too; who reads them at the moment reads on.

        Raises:
            StorageError: the place is not writable.
        """
        for part in self._parts:
            kept = set(self._latest(part).segment.tolist())
            for number, segment in enumerate(self.segments(part)):
                if number not in kept:
                    with storing(segment.path):
                        segment.path.unlink(missing_ok=True)

    def rows_to_keep(self, part: Part, gone: NDArray[np.bytes_]) -> list[NDArray[np.bool_]]:
        """By segment, bool [n]: the rows that count (of two rows of one image the later) and whose image is not gone.

        Args:
            part: which views.
            gone: CONTENT [G], images that nobody has any more.
        """
        kept = [np.zeros(len(segment), bool) for segment in self.segments(part)]
        latest = self._latest(part)
        for number, segment in enumerate(self.segments(part)):
            kept[number][latest.row[latest.segment == number]] = True
            kept[number] &= ~np.isin(segment.contents, gone)
        return kept

    def _latest(self, part: Part) -> RowLocations:
        known, locations = self._orders[part]
        last = np.append(known[1:] != known[:-1], True) if len(known) else np.zeros(0, bool)
        return RowLocations(locations.segment[last], locations.row[last], locations.reason[last])

    def reopened(self) -> FeatureStore:
        """The store as it is now."""
        return FeatureStore(self.folder, self.kind, self.command)


def _order(segments: Sequence[Segment]) -> tuple[NDArray[np.bytes_], RowLocations]:
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
    found = store.shape()
    if found is not None and found != shape:
        raise CacheError(
            f"{store.folder} holds features of shape {list(found)}, but the backbone gives {list(shape)} now",
            f"Move the folder away, and run: {store.command}",
        )
