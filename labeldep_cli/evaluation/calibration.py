"""A temperature for the confidence of label sets, chosen on val (Guo et al. 2017).

The confidence p(set|x) is to say how often such a set is exactly right. A temperature T divides the log probabilities
of the sets: above 1 it makes a network less sure of itself. It is one number, so that a hundred validation rows are
enough; it keeps the order of the probabilities of an image; and it applies to any set, not only to those decided on.

Isotonic regression needs more rows. Fitted on one random half of val and scored on the other (20 draws; yeast, scene,
miml2000 and scenes with 103 to 200 rows; independent labels and a critic), its log loss was higher than that of one
temperature in all eight cases, by 0.06 to 0.14, and its steps make rows equal: AURC was worse by 2 to 6 points.

Where the probabilities come from weights that were themselves fitted to the likelihood of val's label sets (a kernel
critic), a free temperature is noise from the same few rows. On folds of train of the same four data sets (103 to 200
validation rows; two decisions), a temperature of 1 had a lower log loss in six of eight cases, by up to 0.011, and a
higher one in two, by at most 0.001; scene's calibration error fell from 6.2 to 3.2 points. So log T has a Gaussian
prior around 0 there, which only many rows overcome.

N rows, L labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.evaluation.decisions import Decided
from labeldep_cli.evaluation.risk import exactly_right, risk_coverage

Confidences = Callable[[float], NDArray[np.float64]]
"""The confidences [N] at a temperature."""

LOWEST, HIGHEST = 0.2, 10.0
"""The range of temperatures."""

FEWEST = 20
"""With fewer validation rows the temperature stays 1."""

KEPT = 1000
"""At most this number of thresholds is kept in a checkpoint."""

FITTED_SPREAD = 0.05
"""Of log T where the probabilities are fitted already: one standard deviation of the prior."""

_GRID = 41
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 24  # of the golden section, which leave 1e-5 of a grid interval
_CERTAIN = 1e-6  # a confidence of 1 that is wrong once must not have an infinite loss


class Temperature(NamedTuple):
    """A chosen temperature.

    Attributes:
        value: T.
        why: why it stayed 1, in words; None if it was chosen.
    """

    value: float
    why: str | None = None


def choose_temperature(at: Confidences, right: NDArray[np.bool_], spread: float = math.inf) -> Temperature:
    """The temperature in 0.2..10 at which the outcomes of the validation rows are most probable.

    The loss is the sum of -log(confidence) over right rows and -log(1 - confidence) over wrong ones. It is searched on
    a grid of log T, then by a golden section between the neighbours of the best point: no random numbers, no start.

    Args:
        at: the confidences at a temperature.
        right: the outcomes, [N].
        spread: standard deviation of a Gaussian prior of log T around 0; without one, the rows alone decide.
    """
    if len(right) < FEWEST:
        return Temperature(1.0, f"val has only {len(right)} rows")
    if right.all() or not right.any():
        return Temperature(1.0, f"every set of val is {'right' if right.all() else 'wrong'}")

    def loss(log_t: float) -> float:
        p = np.clip(at(math.exp(log_t)), _CERTAIN, 1 - _CERTAIN)
        return (log_t / spread) ** 2 / 2 - float(np.log(np.where(right, p, 1 - p)).sum())

    grid = np.linspace(math.log(LOWEST), math.log(HIGHEST), _GRID)
    best = int(np.argmin([loss(float(log_t)) for log_t in grid]))
    low, high = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, _GRID - 1)])
    return Temperature(math.exp(_minimum(loss, low, high)))


def _minimum(function: Callable[[float], float], low: float, high: float) -> float:
    """The place of the minimum of a function with one minimum in an interval."""
    a, b = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_a, at_b = function(a), function(b)
    for _ in range(_STEPS):
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - _GOLDEN * (high - low)
            at_a = function(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + _GOLDEN * (high - low)
            at_b = function(b)
    return (low + high) / 2


def temperature_of(decided: Decided, labels: NDArray[np.int8]) -> Temperature:
    """The temperature for sets that were decided on validation rows with the labels int8 [N, L]; 1 if they have none.

    A row with unknown labels counts as right if all its known labels are right; one without known labels is left out.
    """
    if decided.at is None:
        return Temperature(1.0, "this decision has no temperature")
    at = decided.at
    scored, right = exactly_right(decided.sets, labels)
    return choose_temperature(lambda t: at(t)[scored], right, FITTED_SPREAD if decided.fitted else math.inf)


def kept_curve(decided: Decided, labels: NDArray[np.int8]) -> dict[str, Any]:
    """What a checkpoint keeps of the validation rows: their risk-coverage curve at `KEPT` thresholds at most, as JSON.

    The counts at each threshold are those of all rows.

    Returns:
        thresholds, accepted, right: those of `RiskCoverage`; empty if no row has a known label.
    """
    scored, right = exactly_right(decided.sets, labels)
    if not scored.any():
        return {"thresholds": [], "accepted": [], "right": []}
    curve = risk_coverage(decided.confidence[scored], right)
    m = len(curve.thresholds)
    kept = np.linspace(0, m - 1, KEPT).round().astype(int) if m > KEPT else np.arange(m)
    names = ("thresholds", "accepted", "right")
    return {name: getattr(curve, name)[kept].tolist() for name in names}
