"""Simulated mistakes in labels, images that are rare but right, and features that show less. N rows, L labels."""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 12
"""Random directions of the features that are kept of a weakened data set."""

BLUR = 1.5
"""Standard deviation of the noise on each direction, in standard deviations of the direction."""


class Mistakes(str, Enum):
    """Which labels are wrong, at a given rate."""

    BOTH = "both"
    """Each label with the same probability."""
    MISSING = "missing"
    """Each present label with the same probability: somebody did not see it."""
    PER_LABEL = "per-label"
    """Each label of a row with a probability of the label's own, exponentially distributed around the rate."""
    LIKE_FREQUENCY = "like-frequency"
    """Present labels at the rate; and about as many absent ones, so that labels stay as frequent as they are."""


def flips(y: NDArray[np.int8], kind: Mistakes, rate: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The labels that are written wrongly, [N, L]; unknown ones are not.

    Args:
        y: true labels [N, L]; -1 where unknown.
        kind: which labels.
        rate: share of them.
        rng: the draw.
    """
    uniform = rng.random(y.shape)
    if kind is Mistakes.MISSING:
        return np.asarray((uniform < rate) & (y > 0))
    if kind is Mistakes.PER_LABEL:
        rates = np.minimum(rate * rng.gamma(1.0, 1.0, size=y.shape[1]), 0.4)
        return np.asarray((uniform < rates) & (y >= 0))
    if kind is Mistakes.LIKE_FREQUENCY:
        share = (y > 0).mean(axis=0)
        return np.asarray(np.where(y > 0, uniform < rate, (uniform < rate * share / (1 - share)) & (y == 0)))
    return np.asarray((uniform < rate) & (y >= 0))


def rare_rows(x: NDArray[np.float32], y: NDArray[np.int8], count: int) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Rows that are rare but right: two images side by side, whose joint label set no image has.

    Args:
        x: features [N, F], means over the image. Those of two images side by side are the mean of both.
        y: labels [N, L], all known.
        count: number of such rows.

    Returns:
        Their features [count, F] and labels [count, L], of at most four labels.
    """
    rng, seen = np.random.default_rng(7), {tuple(row) for row in y}
    pairs: list[NDArray[np.int64]] = []
    while len(pairs) < count:
        pair = rng.integers(len(x), size=2)
        joint = y[pair].max(axis=0)
        if tuple(joint) not in seen and joint.sum() <= 4:
            pairs.append(pair)
    rows = np.array(pairs).reshape(count, 2)
    return x[rows].mean(axis=1).astype(x.dtype), y[rows].max(axis=1)


def weakened(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [N, F] that show less: noisy random directions of them, [N, DIRECTIONS]."""
    rng = np.random.default_rng(3)
    standard = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    shown = standard @ rng.normal(size=(x.shape[1], DIRECTIONS))
    shown /= shown.std(axis=0)
    return np.asarray(shown + BLUR * rng.normal(size=shown.shape), np.float32)
