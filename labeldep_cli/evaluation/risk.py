"""What a confidence is worth: which share of the sets can be accepted, and whether p(set|x) says how often it is right.

Pure numpy. N rows. `right` says for each row whether all its known labels are right; rows without a known label must be
left out. Rows of equal confidence are always taken together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN

BINS = 15
"""Bins of equal count for the calibration error."""

PRECISIONS = (90, 95, 99)
"""Shares of accepted sets that must be right, in %, for which a score says how many rows are accepted."""

_DRAWS = 100
"""Simulations for the calibration error that chance alone gives."""

_Z = 1.959963984540054  # 95 % of a normal distribution lie within this many standard deviations


@dataclass(frozen=True)
class RiskCoverage:
    """The rows in order of confidence, the most confident first (El-Yaniv & Wiener 2010). M distinct confidences.

    Attributes:
        thresholds: the distinct confidences, falling, [M].
        accepted: rows whose confidence is at least the threshold, [M]; the last is N.
        right: how many of these are right, [M].
    """

    thresholds: NDArray[np.float64]
    accepted: NDArray[np.int64]
    right: NDArray[np.int64]

    @property
    def coverage(self) -> NDArray[np.float64]:
        """Share of the rows that are accepted, in %, [M]."""
        return np.asarray(100.0 * self.accepted / self.accepted[-1])

    @property
    def risk(self) -> NDArray[np.float64]:
        """Share of the accepted rows that are wrong, in %, [M]."""
        return np.asarray(100.0 * (1 - self.right / self.accepted))

    @property
    def area(self) -> float:
        """AURC: the mean risk over all coverages, in %; without ties that of the first 1, 2, ..., N rows."""
        return float(np.average(self.risk, weights=np.diff(self.accepted, prepend=0)))

    @property
    def excess(self) -> float:
        """The area minus that of an order that puts every right row before every wrong one, in %."""
        rows = np.arange(1, self.accepted[-1] + 1)
        return self.area - float(100.0 * np.mean(np.maximum(rows - self.right[-1], 0) / rows))

    def index_at(self, precision: float, fewest: int = 1) -> int | None:
        """The lowest threshold at which the accepted rows are right often enough.

        The share that is right may cross the precision several times on the way down; the last crossing counts.

        Args:
            precision: smallest share of the accepted rows that is right, 0..1.
            fewest: smallest number of accepted rows.

        Returns:
            Its index, 0..M-1; None if there is no such threshold.
        """
        # A share such as 19 of 20 must reach 0.95 in spite of its rounding.
        enough = (self.right / self.accepted >= precision - 1e-12) & (self.accepted >= fewest)
        found = np.flatnonzero(enough)
        return int(found[-1]) if found.size else None

    def coverage_at(self, precision: float) -> float:
        """The largest share of the rows, in %, that is right at least this often (0..1); 0 if there is none."""
        index = self.index_at(precision)
        return 0.0 if index is None else float(self.coverage[index])


def risk_coverage(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> RiskCoverage:
    """The curve of N >= 1 rows: confidence [N], right [N]."""
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the last row of each group of equal ones
    return RiskCoverage(ordered[last], last + 1, np.cumsum(right[order], dtype=np.int64)[last])


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error (Guo et al. 2017): mean distance of confidence and share of right rows, in %.

    Over 15 bins of equal count, weighted by their rows. Equal confidences are in the same bin.
    """
    order = np.argsort(confidence, kind="stable")
    return _error(confidence[order], right[order])


def calibration_error_by_chance(confidence: NDArray[np.float64], seed: int = 0) -> float:
    """The calibration error to expect of confidences that are exactly right, on as many rows, in %.

    Every bin has sampling noise, so the error is above 0 even then: the mean over 100 simulations in which each row is
    right with the probability that it is given.
    """
    numbers = np.random.default_rng(seed)
    ordered = np.sort(confidence)
    return float(np.mean([_error(ordered, numbers.random(len(ordered)) < ordered) for _ in range(_DRAWS)]))


def _error(ordered: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The calibration error of rising confidences [N]."""
    n = len(ordered)
    first = np.searchsorted(ordered, ordered, side="left")  # the rank of the first row of equal confidence
    bins = first * min(BINS, n) // n
    starts = np.flatnonzero(np.append(True, bins[1:] != bins[:-1]))
    return float(100.0 * np.abs(np.add.reduceat(right - ordered, starts)).sum() / n)


def interval(right: int, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of rows, 0..1 (Wilson 1927)."""
    share, spread = right / rows, _Z * _Z / rows
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def exactly_right(sets: NDArray[np.bool_], labels: NDArray[np.int8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are scored, and which of those are right.

    Args:
        sets: bool [N, L].
        labels: int8 [N, L], -1 where unknown.

    Returns:
        Whether a row has a known label, [N]; for the rows that have one, whether all known labels are right.
    """
    known = labels != UNKNOWN
    scored = known.any(axis=1)
    return scored, ((sets == (labels > 0)) | ~known).all(axis=1)[scored]


def scores(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> dict[str, Any]:
    """The JSON value of what a confidence is worth, in %; None for each score if there are no rows.

    Returns:
        AURC, AURC_excess, coverage{90, 95, 99}, ECE, ECE_by_chance.
    """
    if not len(right):
        return {"AURC": None, "AURC_excess": None, "coverage": None, "ECE": None, "ECE_by_chance": None}
    curve = risk_coverage(confidence, right)
    return {
        "AURC": curve.area,
        "AURC_excess": curve.excess,
        "coverage": {str(precision): curve.coverage_at(precision / 100) for precision in PRECISIONS},
        "ECE": calibration_error(confidence, right),
        "ECE_by_chance": calibration_error_by_chance(confidence),
    }
