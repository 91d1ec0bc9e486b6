"""Scores at many thresholds at once: the scores that a run can reach by its threshold alone.

Pure numpy. N images, L labels, T thresholds. Unknown labels (-1) are ignored. Scores are 0..100 and equal those of
`metrics.score` at the same threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN

GRID: NDArray[np.float64] = np.linspace(0.01, 0.99, 99)
"""The thresholds of a curve, where no others are given."""

_STEPS = 200
"""Steps of recall in a precision-recall curve."""


@dataclass(frozen=True)
class Curve:
    """Scores by threshold.

    Attributes:
        thresholds: [T].
        CF1, OP, OR, OF1: [T], 0..100; 0 where nothing is predicted.
        labels_per_image: [T], mean number of predicted labels.
    """

    thresholds: NDArray[np.float64]
    CF1: NDArray[np.float64]
    OP: NDArray[np.float64]
    OR: NDArray[np.float64]
    OF1: NDArray[np.float64]
    labels_per_image: NDArray[np.float64]


def by_threshold(p: NDArray[np.float64], labels: NDArray[np.int8], thresholds: NDArray[np.float64] = GRID) -> Curve:
    """Score the sets `p > threshold`.

    Args:
        p: probabilities [N, L].
        labels: int8 [N, L]; at least one entry is known.
        thresholds: [T].
    """
    known, present = labels != UNKNOWN, labels > 0
    n_chosen = _above(p, known, thresholds)  # [T, L]
    n_right = _above(p, present, thresholds)
    n_present = present.sum(axis=0)  # [L]
    occurs = n_present > 0
    precision = _percent(n_right, n_chosen)[:, occurs]
    recall = _percent(n_right, n_present)[:, occurs]
    op = _percent(n_right.sum(axis=1), n_chosen.sum(axis=1))
    or_ = _percent(n_right.sum(axis=1), n_present.sum())
    return Curve(
        thresholds,
        CF1=_harmonic(precision.mean(axis=1), recall.mean(axis=1)) if occurs.any() else np.zeros(len(thresholds)),
        OP=op,
        OR=or_,
        OF1=_harmonic(op, or_),
        labels_per_image=n_chosen.sum(axis=1) / known.any(axis=1).sum(),
    )


def precision_recall(p: NDArray[np.float64], labels: NDArray[np.int8]) -> Curve:
    """OP against OR, with all decisions pooled, in even steps of recall; over GRID if no label occurs."""
    of_present = p[labels > 0]
    if not of_present.size:
        return by_threshold(p, labels)
    # A label is predicted strictly above the threshold, so the next float below a quantile includes the quantile.
    steps = np.nextafter(np.quantile(of_present, np.linspace(1, 0, _STEPS + 1), method="lower"), 0)
    return by_threshold(p, labels, np.unique(steps)[::-1])


def _above(p: NDArray[np.float64], among: NDArray[np.bool_], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of the entries `among` lie strictly above each threshold, by label: [T, L]."""
    columns = [np.sort(p[mask, c]) for c, mask in enumerate(among.T)]
    return np.stack([len(column) - np.searchsorted(column, thresholds, side="right") for column in columns], axis=1)


def _percent(part: NDArray[np.int64], total: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(100.0 * part / np.maximum(total, 1))


def _harmonic(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(2 * a * b, a + b, out=np.zeros_like(a), where=a + b > 0)
