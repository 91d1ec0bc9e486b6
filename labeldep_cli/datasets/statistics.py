"""Counts of labels, and which labels occur together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import Dataset, Split

STRONGEST = 10
"""The number of co-occurrences that are reported."""


@dataclass(frozen=True)
class SplitReport:
    """The counts of one split.

    Attributes:
        images: rows of the split.
        on_disk: images that exist, readable or not; for ready features, all rows.
        labels_per_image: mean number of present labels over the rows with any known label.
        label_counts: rows in which each label is present.
        unknown: number of unknown labels (-1).
        known: number of labels that are known, present or absent.
        present: number of labels that are present.
    """

    images: int
    on_disk: int
    labels_per_image: float
    label_counts: Mapping[str, int]
    unknown: int
    known: int
    present: int

    def to_json(self) -> dict[str, Any]:
        """The split's record in the JSON of `labeldep data`."""
        return {
            "images": self.images,
            "on_disk": self.on_disk,
            "labels_per_image": self.labels_per_image,
            "label_counts": dict(self.label_counts),
            "unknown": self.unknown,
            "known": self.known,
            "present": self.present,
        }


@dataclass(frozen=True)
class Cooccurrence:
    """Two labels that occur together.

    Attributes:
        labels: the two names, in label order.
        count: rows with both.
        lift: rows with both, divided by their expected number if the labels were independent; over rows where both are
            known.
    """

    labels: tuple[str, str]
    count: int
    lift: float

    def to_json(self) -> dict[str, Any]:
        """The pair's record in the JSON of `labeldep data`."""
        return {"labels": list(self.labels), "count": self.count, "lift": self.lift}


def strongest_cooccurrences(dataset: Dataset) -> tuple[Cooccurrence, ...]:
    """The pairs of labels with the highest lift over all splits, at most STRONGEST.

    lift(a, b) = n n_ab / (n_a n_b), each count over the n rows in which both labels are known. Pairs in fewer than
    max(5, 0.1 % of the rows) are left out, since rare pairs easily reach a high lift by chance. Pairs with lift <= 1,
    which occur together no more often than by chance, are left out too.
    """
    names = dataset.space.names
    n_rows = sum(int((split.labels >= 0).any(axis=1).sum()) for split in dataset.splits.values())
    joint, single, known = (sum(counts) for counts in zip(*map(_pair_counts, dataset.splits.values()), strict=True))
    enough = np.triu(joint >= max(5, 0.001 * n_rows), k=1)
    first, second = np.nonzero(enough)
    lift = joint[enough] * known[enough] / (single[enough] * single.T[enough])  # [pairs]
    order = sorted(
        (i for i in range(len(lift)) if lift[i] > 1),
        key=lambda i: (-lift[i], -joint[first[i], second[i]], first[i], second[i]),
    )
    return tuple(
        Cooccurrence((names[first[i]], names[second[i]]), int(joint[first[i], second[i]]), float(lift[i]))
        for i in order[:STRONGEST]
    )


def _pair_counts(split: Split) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Count rows by pairs of labels (a, b).

    Each count runs over the few rows that have label a. It could be one matrix product, but that takes a hundred times
    longer when other work keeps a core busy, since the threads of numpy's BLAS spin while they wait for each other.

    Returns:
        Three arrays [L, L]: both present; a present and b known; both known.
    """
    present, unknown = split.labels == 1, split.labels < 0
    joint = _rows_with_each(present, present)
    single = present.sum(axis=0)[:, None] - _rows_with_each(present, unknown)
    n_unknown = unknown.sum(axis=0)
    known = len(split) - n_unknown[:, None] - n_unknown[None, :] + _rows_with_each(unknown, unknown)
    return joint, single, known


def _rows_with_each(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> NDArray[np.float64]:
    """[L, L]: the number of rows in which `first` [N, L] holds for label a and `second` [N, L] for label b."""
    counts = np.zeros((first.shape[1], second.shape[1]))
    if second.any():
        for a in range(first.shape[1]):
            counts[a] = second[first[:, a]].sum(axis=0)
    return counts


def describe(split: Split, absent: int) -> SplitReport:
    """Count the labels of a split; `absent` of its images are not on the disk."""
    counts = (split.labels == 1).sum(axis=0)
    annotated = int((split.labels >= 0).any(axis=1).sum())
    return SplitReport(
        images=len(split),
        on_disk=len(split) - absent,
        labels_per_image=float(counts.sum()) / max(annotated, 1),
        label_counts={name: int(count) for name, count in zip(split.space.names, counts, strict=True)},
        unknown=int((split.labels < 0).sum()),
        known=int((split.labels >= 0).sum()),
        present=int(counts.sum()),
    )


def constant_labels_of(dataset: Dataset) -> tuple[str, ...]:
    """The labels that are present in every row in which they are known, over all splits."""
    labels = np.concatenate([split.labels for split in dataset.splits.values()])
    return dataset.space.decode(((labels != 0).all(axis=0)) & (labels == 1).any(axis=0))


def absent_labels_of(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """By split, the labels that are present in no row; splits without such labels are left out."""
    absent = {}
    for name, split in dataset.splits.items():
        labels = dataset.space.decode(~(split.labels == 1).any(axis=0)) if len(split) else ()
        if labels:
            absent[name] = labels
    return absent
