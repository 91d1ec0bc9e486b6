"""The label set with the best expected F1, given the probabilities of sets that may be the true one.

The most probable set is best for exact match. A score that counts single labels, such as F1, can prefer another set.
N images, K sets per image, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EMPTY = 1.0
"""F1 of an empty set if the true set is empty too."""

_BLOCK = 256
"""Images at a time: each takes several numbers for each pair of a label and a size."""


def best_expected_f1(sets: Tensor, weights: Tensor) -> Tensor:
    """Maximise the expected example-wise F1, exactly over all 2^L sets (Dembczynski et al. 2011, "GFM").

    A set h of m labels has the expected F1 sum_k w_k 2 |h n y_k| / (m + |y_k|). This is a sum over its labels of
    delta(l, m) = sum_k w_k 2 [l in y_k] / (m + |y_k|). So the best set of each size m has the m labels with the largest
    delta. A label that is in no y_k adds nothing and is never taken.

    Args:
        sets: bool [N, K, L], the sets y_k.
        weights: [N, K], their probabilities.

    Returns:
        bool [N, L]; the empty set where no other set has a larger expected F1 than the weight of the empty y_k.
    """
    blocks = zip(torch.split(sets, _BLOCK), torch.split(weights, _BLOCK), strict=True)
    return torch.cat([_best_of_block(*block) for block in blocks])


def _best_of_block(sets: Tensor, weights: Tensor) -> Tensor:
    """Only the U labels that are in some y_k of an image are ranked: U is small where L is in the thousands."""
    listed = sets.any(dim=1)  # [N, L]
    width = max(int(listed.sum(dim=1).max()), 1)
    labels = listed.int().topk(width, dim=1).indices.sort(dim=1).values  # [N, U]
    mine = sets.gather(2, labels[:, None].expand(-1, sets.shape[1], -1))  # [N, K, U]
    sizes = sets.sum(dim=2)  # [N, K]
    m = torch.arange(1, width + 1, device=sets.device)
    share = 2 * weights[:, :, None] / (sizes[:, :, None] + m)  # [N, K, U], by size
    delta = mine.to(weights.dtype).transpose(1, 2) @ share  # [N, U, U], by label and size
    ranked = delta.sort(dim=1, descending=True, stable=True)
    taken = m[:, None] <= m  # [U, U]: the label of a rank is in a set of a size
    expected = (ranked.values * taken).sum(dim=1)  # [N, U]
    empty = _EMPTY * (weights * (sizes == 0)).sum(dim=1, keepdim=True)
    size = torch.cat([empty, expected], dim=1).argmax(dim=1)  # [N], 0 for the empty set
    order = ranked.indices.gather(2, (size - 1).clamp(min=0)[:, None, None].expand(-1, width, 1)).squeeze(2)
    return torch.zeros_like(listed).scatter_(1, labels.gather(1, order), m <= size[:, None])
