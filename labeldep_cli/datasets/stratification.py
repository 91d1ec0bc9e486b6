"""Iterative stratification: hold out a share of every label (Sechidis et al., 2011), with few rows moved by added ones.

A unit is what a draw does not divide: a row, or a group of rows such as the images of one patient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.spans import spans


@dataclass(frozen=True)
class LabelCounts:
    """How many rows of each unit have each label. Only the E pairs of a unit and a label that occur are stored.

    Attributes:
        sizes: int64 [U], the number of rows of each unit.
        n_labels: L.
        unit, label, count: int64 [E], ascending by unit; `count` is 1 or more.
    """

    sizes: NDArray[np.int64]
    n_labels: int
    unit: NDArray[np.int64]
    label: NDArray[np.int64]
    count: NDArray[np.int64]

    @staticmethod
    def of(labels: NDArray[np.int8], units: NDArray[np.int64]) -> LabelCounts:
        """Count the present labels of each unit; unknown labels count as nothing.

        Args:
            labels: int8 [N, L]; 1 present, 0 absent, -1 unknown.
            units: int64 [N], the unit of each row; all numbers from 0 to U - 1 occur.
        """
        n_labels = labels.shape[1]
        rows, columns = np.nonzero(labels == 1)
        pairs, count = np.unique(units[rows] * n_labels + columns, return_counts=True)
        unit, label = np.divmod(pairs, max(n_labels, 1))
        return LabelCounts(np.bincount(units), n_labels, unit, label, count)

    def among(self, units: NDArray[np.bool_]) -> LabelCounts:
        """The counts of some units, bool [U], which are numbered anew in the same order."""
        entries = units[self.unit]
        number = units.cumsum() - 1
        unit = number[self.unit[entries]]
        return LabelCounts(self.sizes[units], self.n_labels, unit, self.label[entries], self.count[entries])

    def units_with_labels(self, among: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The number of units with each label, int64 [L], among some of the units, bool [U]."""
        return np.bincount(self.label[among[self.unit]], minlength=self.n_labels)

    def rows_with_labels(self) -> NDArray[np.int64]:
        """The number of rows with each label, int64 [L]."""
        return np.bincount(self.label, self.count, self.n_labels).astype(np.int64)


def stratify(counts: LabelCounts, hashes: NDArray[np.uint64], fraction: float) -> NDArray[np.bool_]:
    """Hold out the same share of the rows with each label, and of all rows, as nearly as the units allow.

    The label with the fewest undecided units is next. As many of its rows are held out as its share still lacks: the
    units with the lowest hashes. Its other units stay. Sechidis et al. draw these rows at random. By their hashes, most
    rows keep their side if others are added, since a draw without labels takes the lowest hashes too.

    Args:
        counts: the labels of U units.
        hashes: uint64 [U], a random number for each unit.
        fraction: the share to hold out.

    Returns:
        bool [U], the units that are held out.
    """
    by_label = np.lexsort((hashes[counts.unit], counts.label))
    bounds = np.searchsorted(counts.label[by_label], np.arange(counts.n_labels + 1))
    wanted = counts.rows_with_labels() * float(fraction)
    left = np.bincount(counts.label, minlength=counts.n_labels)
    undecided, held_out = np.ones(len(hashes), bool), np.zeros(len(hashes), bool)
    while left.any():
        label = np.where(left > 0, left, left.max() + 1).argmin()
        entries = by_label[bounds[label] : bounds[label + 1]]
        entries = entries[undecided[counts.unit[entries]]]
        too_few = counts.sizes[held_out].sum() < fraction * counts.sizes[~undecided].sum()
        n = _nearest(counts.count[entries], wanted[label], too_few)
        units = counts.unit[entries]
        undecided[units], held_out[units[:n]] = False, True
        wanted -= _sums(counts, units[:n], counts.count)
        left -= _sums(counts, units, np.ones_like(counts.count)).astype(np.int64)
    rest = np.flatnonzero(undecided)
    rest = rest[np.argsort(hashes[rest])]
    n = _nearest(counts.sizes[rest], fraction * counts.sizes.sum() - counts.sizes[held_out].sum(), False)
    held_out[rest[:n]] = True
    return held_out


def _nearest(sizes: NDArray[np.int64], wanted: float, more: bool) -> int:
    """How many of the first units come nearest to `wanted` rows; of two that are as near, the larger if `more`."""
    distance = np.abs(np.append(0, sizes.cumsum()) - wanted)
    best = np.flatnonzero(distance <= distance.min() + 1e-9)
    return int(best[-1] if more else best[0])


def _sums(counts: LabelCounts, units: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum values [E] of all entries of some units by label, float64 [L]."""
    entries, _ = spans(np.searchsorted(counts.unit, units), np.searchsorted(counts.unit, units, side="right"))
    return np.bincount(counts.label[entries], values[entries], counts.n_labels).astype(np.float64)
