"""Label co-occurrence for a picture: a lift that rare pairs do not dominate, and an order of the labels.

Pure numpy. L labels.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray


def log_lift(counts: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Log2 of how many times more often two labels occur together than by chance.

    Half an image is added to the count and to the count expected by chance. So a pair that is expected less than once
    stays near 0, even if it does occur.

    Args:
        counts: images with both labels [L, L]; the diagonal has the counts of single labels.
        n: total number of images.

    Returns:
        [L, L]; 1 for twice as often, -1 for half as often, 0 on the diagonal.
    """
    single = np.diag(counts)
    lift = np.log2((counts + 0.5) / (np.outer(single, single) / n + 0.5))
    np.fill_diagonal(lift, 0.0)
    return np.asarray(lift)


def clustered(similarity: NDArray[np.float64]) -> list[int]:
    """An order of labels that puts similar labels next to each other.

    The two groups with the largest mean similarity are merged until one group is left (average linkage). Each group
    may be reversed, so that the two labels that meet are as similar as possible.

    Args:
        similarity: symmetric [L, L]; the diagonal is ignored.

    Returns:
        The L label numbers in order.
    """
    groups = [[k] for k in range(len(similarity))]
    between = similarity.astype(np.float64)
    np.fill_diagonal(between, -np.inf)
    while len(groups) > 1:
        i, j = sorted(divmod(int(between.argmax()), len(groups)))
        a, b = len(groups[i]), len(groups[j])
        mean = (a * between[i] + b * between[j]) / (a + b)
        between[i], between[:, i], between[i, i] = mean, mean, -np.inf
        between = np.delete(np.delete(between, j, axis=0), j, axis=1)
        groups[i] = _joined(groups[i], groups.pop(j), similarity)
    return groups[0]


def _joined(first: list[int], second: list[int], similarity: NDArray[np.float64]) -> list[int]:
    ways = product((first, first[::-1]), (second, second[::-1]))
    head, tail = max(ways, key=lambda way: similarity[way[0][-1], way[1][0]])
    return head + tail
