"""Images that look the same: pairs across splits, and pairs whose labels differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.spans import spans
from labeldep_cli.datasets.split import SPLITS, Dataset

MAX_DISTANCE = 6
"""Bits, of 64, in which the hashes of two images that look the same may differ. Chosen on the 2,000 photos of miml2000
(docs/data.md): at 8 bits most of the further pairs are different photos."""

_BANDS, _WIDTH = 4, 16
"""Hashes are compared if in one of these bands of bits they differ in one bit at most. No pair is missed: if 7 bits
differ, one of 4 bands has at most 1 of them."""

_AT_ONCE = 1 << 22
"""Pairs that are compared at once: 100 MB."""

_ONES = np.unpackbits(np.arange(1 << 16, dtype=">u2").view(np.uint8)).reshape(-1, 16).sum(axis=1, dtype=np.uint8)
"""The number of bits of each 16-bit number."""


@dataclass(frozen=True)
class Looks:
    """What N images look like.

    Attributes:
        hashes: uint64 [N], perceptual hashes (`features.look`).
        known: bool [N], whether an image has a hash: it could be read, and is not of one colour.
        contents: int64 [N]; equal for files that are identical byte by byte, -1 if there is no such file.
    """

    hashes: NDArray[np.uint64]
    known: NDArray[np.bool_]
    contents: NDArray[np.int64]

    @staticmethod
    def of(hashes: Sequence[int | None], digests: Sequence[bytes | None]) -> Looks:
        """The looks of N images.

        Args:
            hashes: None for an image without a hash.
            digests: the SHA-256 of files; None for a file that is like no other.
        """
        numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests)) if digest is not None}
        return Looks(
            np.array([look or 0 for look in hashes], np.uint64),
            np.array([look is not None for look in hashes], bool),
            np.array([-1 if digest is None else numbers[digest] for digest in digests], np.int64),
        )

    def subset(self, kept: NDArray[np.bool_]) -> Looks:
        """The looks of some of the images, bool [N]."""
        return Looks(self.hashes[kept], self.known[kept], self.contents[kept])


class Pairs(NamedTuple):
    """Pairs of rows: `first`, `second` int64 [P]; and the number of bits, int64 [P], in which their hashes differ."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.int64]


def near_pairs(hashes: NDArray[np.uint64]) -> Pairs:
    """All pairs of different hashes that differ in at most MAX_DISTANCE bits.

    Args:
        hashes: uint64 [M], all different.

    Returns:
        Positions in `hashes`, `first` < `second`.
    """
    found = [np.zeros(0, np.int64)]
    for band in range(_BANDS):
        keys = (hashes >> np.uint64(band * _WIDTH)).astype(np.int64) & ((1 << _WIDTH) - 1)
        order = np.argsort(keys, kind="stable")
        bounds = np.searchsorted(keys[order], np.arange((1 << _WIDTH) + 1))
        for mask in (0, *(1 << bit for bit in range(_WIDTH))):
            probed = keys ^ mask
            first, last = bounds[probed], bounds[probed + 1]
            for part in _parts(last - first):
                places, numbers = spans(first[part], last[part])
                left, right = np.arange(len(hashes))[part][numbers], order[places]
                left, right = left[left < right], right[left < right]
                close = _distance(hashes[left], hashes[right]) <= MAX_DISTANCE
                found.append(left[close] * len(hashes) + right[close])
    pairs = np.unique(np.concatenate(found))
    left, right = np.divmod(pairs, max(len(hashes), 1))
    return Pairs(left, right, _distance(hashes[left], hashes[right]))


def _parts(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Consecutive parts of the ranges, each with about _AT_ONCE positions or one range."""
    ends, start = lengths.cumsum(), 0
    while start < len(lengths):
        done = ends[start] - lengths[start]
        stop = max(int(np.searchsorted(ends, done + _AT_ONCE, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def _distance(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The number of bits in which hashes [P] differ, int64 [P]."""
    distance: NDArray[np.int64] = _ONES[(left ^ right).view(np.uint16)].reshape(-1, 4).sum(axis=1, dtype=np.int64)
    return distance


def twin_rows(looks: Looks, rank: NDArray[np.int64]) -> Pairs:
    """Pairs of images that look the same. Of many equal hashes not all pairs are listed, but each image is in one.

    Args:
        looks: the N images.
        rank: int64 [N], the number of each image's split in SPLITS. If images of several splits look the same, there is
            a pair for each two of these splits.

    Returns:
        Rows; `first` has the lower rank.
    """
    rows = np.flatnonzero(looks.known)
    hashes, hash_of = np.unique(looks.hashes[rows], return_inverse=True)
    order = np.lexsort((rows, rank[rows], hash_of))
    key = hash_of * len(SPLITS) + rank[rows]
    same = key[order[1:]] == key[order[:-1]]
    parts = [(rows[order[:-1][same]], rows[order[1:][same]], np.zeros(same.sum(), np.int64))]
    example = np.full((len(hashes), len(SPLITS)), len(rank))  # the first row of each hash and split; N for none
    np.minimum.at(example, (hash_of, rank[rows]), rows)
    near = near_pairs(hashes)
    for a in range(len(SPLITS)):
        for b in range(len(SPLITS)):
            left, right = example[near.first, a], example[near.second, b]
            there = (left < len(rank)) & (right < len(rank))
            parts.append((left[there], right[there], near.distance[there]))
            if a < b:
                left, right = example[:, a], example[:, b]
                there = (left < len(rank)) & (right < len(rank))
                parts.append((left[there], right[there], np.zeros(there.sum(), np.int64)))
    first, second, distance = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    swap = (rank[first] > rank[second]) | ((rank[first] == rank[second]) & (first > second))
    first, second = np.where(swap, second, first), np.where(swap, first, second)
    _, once = np.unique(first * len(rank) + second, return_index=True)
    return Pairs(first[once], second[once], distance[once])


def leaking(looks: Looks, rank: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The images, bool [N], that have a twin in a later split: in val or test for train, in test for val.

    Args:
        looks: the N images.
        rank: int64 [N], the number of each image's split in SPLITS.
    """
    leaks = np.zeros(len(rank), bool)
    rows = np.flatnonzero(looks.known)
    hashes, hash_of = np.unique(looks.hashes[rows], return_inverse=True)
    own = np.zeros(len(hashes), np.int64)
    np.maximum.at(own, hash_of, rank[rows])
    near, latest = near_pairs(hashes), own.copy()
    np.maximum.at(latest, near.first, own[near.second])
    np.maximum.at(latest, near.second, own[near.first])
    leaks[rows] = latest[hash_of] > rank[rows]
    copies = np.flatnonzero(looks.contents >= 0)
    last = np.zeros(looks.contents.max(initial=0) + 1, np.int64)
    np.maximum.at(last, looks.contents[copies], rank[copies])
    leaks[copies] |= last[looks.contents[copies]] > rank[copies]
    return leaks


@dataclass(frozen=True)
class Twin:
    """Two images that look the same.

    Attributes:
        paths, splits: the images and their splits.
        distance: number of bits, of 64, in which their hashes differ.
        same_file: whether their files are identical byte by byte.
        differ: the labels that are present in one and absent in the other.
    """

    paths: tuple[str, str]
    splits: tuple[str, str]
    distance: int
    same_file: bool
    differ: tuple[str, ...]

    @property
    def leaks(self) -> bool:
        """Whether they are in different splits."""
        return self.splits[0] != self.splits[1]

    def to_json(self) -> dict[str, Any]:
        """The pair's record in the JSON of `labeldep data`."""
        return {
            "paths": list(self.paths),
            "splits": list(self.splits),
            "leaks": self.leaks,
            "distance": self.distance,
            "same_file": self.same_file,
            "labels_differ": list(self.differ),
        }


@dataclass(frozen=True)
class TwinReport:
    """The images of a data set that look the same.

    Attributes:
        twins: pairs; those in different splits come first, then those with different labels.
        n_leaking: number of images of train and val that have a twin, or a copy, in a later split.
        n_plain: number of images of one colour, which are not compared.
    """

    twins: tuple[Twin, ...] = ()
    n_leaking: int = 0
    n_plain: int = 0

    @property
    def across(self) -> tuple[Twin, ...]:
        """The pairs in different splits, without identical files."""
        return tuple(twin for twin in self.twins if twin.leaks and not twin.same_file)

    @property
    def contradicting(self) -> tuple[Twin, ...]:
        """The pairs with different labels, identical files among them."""
        return tuple(twin for twin in self.twins if twin.differ)

    def to_json(self) -> dict[str, Any]:
        """The record `near_identical` in the JSON of `labeldep data`."""
        return {
            "max_distance": MAX_DISTANCE,
            "pairs": [twin.to_json() for twin in self.twins],
            "across_splits": len(self.across),
            "different_labels": len(self.contradicting),
            "leaking_images": self.n_leaking,
            "plain_images": self.n_plain,
        }


def twins_of(dataset: Dataset, looks: Looks, n_plain: int) -> TwinReport:
    """Compare the images of a data set.

    Args:
        dataset: the data set.
        looks: of its N images, one split after the other.
        n_plain: number of images of one colour.
    """
    splits = list(dataset.splits.values())
    rank = np.repeat([SPLITS.index(split.name) for split in splits], [len(split) for split in splits])
    paths = [path for split in splits for path in split.paths]
    labels = np.concatenate([split.labels for split in splits])
    pairs = twin_rows(looks, rank)
    copies = (looks.contents[pairs.first] >= 0) & (looks.contents[pairs.first] == looks.contents[pairs.second])
    a, b = labels[pairs.first], labels[pairs.second]
    differ = (a != b) & (a >= 0) & (b >= 0)
    twins = [
        Twin(
            (paths[first], paths[second]),
            (SPLITS[rank[first]], SPLITS[rank[second]]),
            int(pairs.distance[k]),
            bool(copies[k]),
            dataset.space.decode(differ[k]),
        )
        for k, (first, second) in enumerate(zip(pairs.first, pairs.second, strict=True))
    ]
    twins.sort(key=lambda twin: (not twin.leaks, not twin.differ, twin.distance))
    return TwinReport(tuple(twins), int(leaking(looks, rank).sum()), n_plain)
