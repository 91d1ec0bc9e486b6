"""Many ranges of positions at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def spans(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions in R ranges, one range after the other.

    Args:
        first, last: int64 [R], each range from `first` to `last` exclusive.

    Returns:
        int64 [P], the positions; and int64 [P], the number of the range that each is from.
    """
    lengths = last - first
    before = lengths.cumsum() - lengths
    return np.repeat(first - before, lengths) + np.arange(lengths.sum()), np.repeat(np.arange(len(lengths)), lengths)
