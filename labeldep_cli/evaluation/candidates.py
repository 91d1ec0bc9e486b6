"""The most probable label sets of independent labels: the candidates of a search for a better set.

N images, K sets per image, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def most_probable_sets(logits: Tensor, count: int) -> Tensor:
    """The K most probable label sets of each image under independent labels, computed exactly.

    The log probability of a set is that of the best set (p > 0.5) minus |logit| for every label in which the two
    differ. So the K best sets differ from the best one only in the K - 1 labels with the smallest |logit|. A set that
    differs in any other label is at most as probable as the best set and as each of the K - 1 sets that flip one of
    those labels alone. The search takes labels in order of |logit| and keeps only the K best sets at each label.

    Args:
        logits: [N, L].
        count: maximum number of sets per image, at least 1.

    Returns:
        bool [N, K, L], most probable first; K is `count`, or 2^L if that is less.
    """
    n, width = logits.shape
    least_certain = logits.abs().topk(min(count - 1, width), largest=False)  # sorted: smallest |logit| first
    cost = logits.new_zeros(n, 1)  # [N, k], of the k best sets so far
    flipped = torch.zeros(n, 1, least_certain.indices.shape[1], dtype=torch.bool, device=logits.device)  # [N, k, C]
    for position in range(least_certain.indices.shape[1]):
        more = flipped.clone()
        more[:, :, position] = True
        both = torch.cat([cost, cost + least_certain.values[:, position : position + 1]], dim=1)
        cost, kept = both.topk(min(count, both.shape[1]), largest=False)
        flipped = torch.cat([flipped, more], dim=1).gather(1, kept[:, :, None].expand(-1, -1, flipped.shape[2]))
    differ = torch.zeros(n, flipped.shape[1], width, dtype=torch.bool, device=logits.device)
    differ.scatter_(2, least_certain.indices[:, None, :].expand(-1, flipped.shape[1], -1), flipped)
    return (logits > 0)[:, None, :] ^ differ
