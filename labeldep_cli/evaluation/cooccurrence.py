"""Which labels go together, as a picture can show it: lift that rare pairs cannot shout in, and an order of labels.

Pure numpy. L labels.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray


def log_lift(together: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """How many times more often than by chance two labels are together, as a power of 2.

    Half an image is added to the count and to what chance gives: a pair that chance would bring together less than once
    stays near 0, whatever happened to it.

    Args:
        together: images with both labels [L, L]; the diagonal has the single counts.
        n: images in all.

    Returns:
        [L, L]; 1 for twice as often, -1 for half as often, 0 on the diagonal.
    """
    single = np.diag(together)
    lift = np.log2((together + 0.5) / (np.outer(single, single) / n + 0.5))
    np.fill_diagonal(lift, 0.0)
    return np.asarray(lift)


def clustered(similarity: NDArray[np.float64]) -> list[int]:
    """An order of labels in which those that go together stand together.

    The two groups with the largest mean similarity are joined until one is left (average linkage), each time in the
    directions in which their touching ends are most alike.

    Args:
        similarity: symmetric [L, L]; the diagonal is not looked at.
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
