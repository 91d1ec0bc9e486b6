"""The label sets that the training rows have. N or B rows, L labels, S distinct sets."""

from __future__ import annotations

import torch
from torch import Tensor

MOST_SETS = 2**15
_MOST_ENTRIES = 2**26  # of the list of sets, S * L


def known_sets(labels: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct label sets of complete rows, the most frequent first, and how often they occur.

    Args:
        labels: int8 [N, L]; -1 where unknown. If no row is complete, unknown labels count as absent.

    Returns:
        bool [S, L] and int64 [S]; at most MOST_SETS sets, fewer if there are very many labels.
    """
    complete = labels[(labels >= 0).all(dim=1)]
    sets, counts = torch.unique((complete if len(complete) else labels) > 0, dim=0, return_counts=True)
    order = counts.argsort(descending=True, stable=True)[: min(MOST_SETS, _MOST_ENTRIES // labels.shape[1])]
    return sets[order], counts[order]


def agreeing(sets: Tensor, labels: Tensor) -> Tensor:
    """Which sets have all the known labels of a row: bool [S, L] and labels [B, L], -1 where unknown -> bool [B, S]."""
    listed = sets.to(torch.get_default_dtype())
    present, absent = (labels > 0).to(listed.dtype), (labels == 0).to(listed.dtype)
    return present @ (1 - listed).T + absent @ listed.T == 0  # the number of labels that differ, exact in float32
