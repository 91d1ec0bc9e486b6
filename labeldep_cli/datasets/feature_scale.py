"""The scale of ready features, on which they are trained as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.doubts.doubt import Answer, Doubt

LARGEST = 65504.0
"""The largest number of float16, in which labeldep keeps features."""

SPREADS = (0.5, 300.0)
"""The spreads within which training works at its default settings; docs/data.md has the measurement."""

_ROWS = 4096
"""Rows that the spread is measured on."""


def scale_doubt(features: NDArray[np.float32]) -> Doubt | None:
    """Ask whether to standardise features that a network does not learn from as they are.

    Args:
        features: float32 [N, F], all finite.
    """
    answers = (Answer("To bring each feature to mean 0 and deviation 1", {"standardize": True}),)
    for start in range(0, len(features), _ROWS):
        block = features[start : start + _ROWS]
        beyond = np.argwhere((block > LARGEST) | (block < -LARGEST))
        if len(beyond):
            row, column = beyond[0]
            value = f"X[{start + row}, {column}] is {block[row, column]:.3g}"
            return Doubt(f"{value}, which is beyond float16 ({LARGEST:.0f})", answers, "Or correct it.")
    spread = spread_of(features)
    if spread == 0 or SPREADS[0] <= spread <= SPREADS[1]:
        return None
    what = f"the rows of X spread by {spread:.2g} around their mean, on which a network does not learn well"
    return Doubt(what, answers, f"Or scale X so that they spread by {SPREADS[0]:g} to {SPREADS[1]:g}.")


def spread_of(features: NDArray[np.float32]) -> float:
    """The typical distance of a row from the mean row: the root of the summed variances of the features."""
    some = features[:: max(len(features) // _ROWS, 1)].astype(np.float64)
    return float(np.sqrt(some.var(axis=0).sum()))
