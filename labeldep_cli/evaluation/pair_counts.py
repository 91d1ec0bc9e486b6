"""How many images have both labels of a pair, for as many labels as there are: only pairs that occur are stored.

N images, L labels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class PairCounts(NamedTuple):
    """The pairs of labels that occur together. P of them; at most N K^2 / 2 if sets have K labels.

    Attributes:
        first, second: the two labels, first < second, [P]; in the order of `first`, then of `second`.
        counts: the number of images with both, [P].
        n_labels: L.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    counts: NDArray[np.int64]
    n_labels: int

    @staticmethod
    def of(sets: NDArray[np.bool_]) -> PairCounts:
        """Count the pairs of bool [N, L]."""
        from scipy import sparse

        x = sparse.csr_array(sets, dtype=np.int32)
        found = sparse.triu(x.T @ x, k=1).tocoo()
        order = np.lexsort((found.col, found.row))
        row, column = (place[order].astype(np.int64) for place in (found.row, found.col))
        return PairCounts(row, column, found.data[order].astype(np.int64), sets.shape[1])

    def at(self, others: PairCounts) -> NDArray[np.int64]:
        """The number of images of this count for each pair of another one, in the other's order; 0 for one without."""
        mine, theirs = self._codes, others._codes
        place = np.searchsorted(mine, theirs)
        there = place < len(mine)
        there[there] = mine[place[there]] == theirs[there]
        counts = np.zeros(len(theirs), dtype=np.int64)
        counts[there] = self.counts[place[there]]
        return counts

    def with_at_least(self, count: int) -> PairCounts:
        """The pairs that this many images have."""
        kept = self.counts >= count
        return PairCounts(self.first[kept], self.second[kept], self.counts[kept], self.n_labels)

    @property
    def _codes(self) -> NDArray[np.int64]:
        return self.first * self.n_labels + self.second


def cooccurrence_counts(sets: NDArray[Any]) -> NDArray[np.float64]:
    """Number of images with both labels as a table [L, L], for a few labels; the diagonal counts single labels."""
    x = sets.astype(np.float64)
    return np.asarray(x.T @ x)
