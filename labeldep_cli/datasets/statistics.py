"""Counts of labels, and which labels occur together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    names, parts = dataset.space.names, [split.labels for split in dataset.splits.values()]
    n_rows = sum(int((labels >= 0).any(axis=1).sum()) for labels in parts)
    first, second, joint = _frequent_pairs(parts, max(5, 0.001 * n_rows))
    if all((labels >= 0).all() for labels in parts):
        counts = sum((labels == 1).sum(axis=0) for labels in parts)
        lift = joint * n_rows / (counts[first] * counts[second])
    else:
        lift = np.array([_lift(parts, *pair) for pair in zip(first, second, joint, strict=True)])
    order = np.lexsort((second, first, -joint, -lift))
    return tuple(
        Cooccurrence((names[first[i]], names[second[i]]), int(joint[i]), float(lift[i]))
        for i in order[:STRONGEST]
        if lift[i] > 1
    )


def _frequent_pairs(
    parts: Sequence[NDArray[np.int8]], least: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pairs of labels a < b that are present together in at least so many rows, and the number of these rows.

    One label at a time, over the few rows that have it: nothing has the size L x L. It could be one matrix product, but
    that takes a hundred times longer when other work keeps a core busy, since the threads of numpy's BLAS spin while
    they wait for each other.

    Args:
        parts: labels [N, L] of each split.
        least: number of rows.

    Returns:
        a, b and the rows, [pairs] each; no more than L^2 / 2 pairs, nor than N K^2 / least of K labels a row.
    """
    present = [labels == 1 for labels in parts]
    rows_of = [_rows_by_label(one) for one in present]
    found: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]] = []
    for a in np.flatnonzero(sum(one.sum(axis=0) for one in present) >= least):
        joint = sum(one[rows[a], a + 1 :].sum(axis=0) for one, rows in zip(present, rows_of, strict=True))
        enough = np.flatnonzero(joint >= least)
        found.append((np.full(len(enough), a), a + 1 + enough, joint[enough]))
    none = np.zeros(0, dtype=np.int64)
    first, second, joint = (
        (np.concatenate([none, *column]) for column in zip(*found, strict=True)) if found else (none,) * 3
    )
    return first, second, joint


def _rows_by_label(present: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """The rows of each label, from bool [N, L]."""
    columns, rows = np.nonzero(present.T)
    return np.split(rows, np.searchsorted(columns, np.arange(1, present.shape[1])))


def _lift(parts: Sequence[NDArray[np.int8]], a: int, b: int, joint: int) -> float:
    """The lift of two labels over the rows in which both are known."""
    known, of_a, of_b = 0, 0, 0
    for labels in parts:
        one, other = labels[:, a], labels[:, b]
        both = (one >= 0) & (other >= 0)
        known += int(both.sum())
        of_a += int((one[both] == 1).sum())
        of_b += int((other[both] == 1).sum())
    return joint * known / (of_a * of_b)


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
