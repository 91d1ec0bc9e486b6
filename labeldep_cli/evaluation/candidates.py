"""The most probable label sets of independent labels: what a search for a better set has to choose from.

N images, K sets an image, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def most_probable_sets(logits: Tensor, count: int) -> Tensor:
    """The K most probable label sets of each image where its labels are independent, exactly.

    A set's log probability is that of the best one (p > 0.5) less |logit| for every label in which they differ. So the
    K best sets differ from the best one in the K - 1 least sure labels at most: a set that differs in the next one is
    beaten by that best set and by each of the K - 1 that differ in one surer-to-flip label. Labels are taken in order
    of |logit|, and of the sets that differ in those seen so far only the K best are kept.

    Args:
        logits: [N, L].
        count: sets an image at most; 1 or more.

    Returns:
        bool [N, K, L], most probable first; K = count, or 2^L where that is less.
    """
    n, width = logits.shape
    unsure = logits.abs().topk(min(count - 1, width), largest=False)  # sorted: the least sure first
    cost = logits.new_zeros(n, 1)  # [N, k], of the k best so far
    flipped = torch.zeros(n, 1, unsure.indices.shape[1], dtype=torch.bool, device=logits.device)  # [N, k, C]
    for position in range(unsure.indices.shape[1]):
        more = flipped.clone()
        more[:, :, position] = True
        both = torch.cat([cost, cost + unsure.values[:, position : position + 1]], dim=1)
        cost, kept = both.topk(min(count, both.shape[1]), largest=False)
        flipped = torch.cat([flipped, more], dim=1).gather(1, kept[:, :, None].expand(-1, -1, flipped.shape[2]))
    differ = torch.zeros(n, flipped.shape[1], width, dtype=torch.bool, device=logits.device)
    differ.scatter_(2, unsure.indices[:, None, :].expand(-1, flipped.shape[1], -1), flipped)
    return (logits > 0)[:, None, :] ^ differ
