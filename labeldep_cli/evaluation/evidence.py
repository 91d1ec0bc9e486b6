"""What a critic says of single labels: how much more real a label set looks with one label than without it."""

from __future__ import annotations

import torch
from torch import Tensor

from labeldep_cli.evaluation.rerank import BLOCK, Score


@torch.inference_mode()
def critic_evidence(score: Score, sets: Tensor, z: Tensor) -> Tensor:
    """D(y with the label, x) - D(y without it, x) of each label, the others staying as they are.

    A density-ratio critic (`--critic nce`) estimates log p(y|x) / p_G(y|x): its difference is what the other labels add
    to the logit of this one, so that beta times it and G's own logit are evidence on one scale.

    Args:
        score: D.
        sets: label sets bool [N, L].
        z: features as D sees them, [N, F].

    Returns:
        float [N, L]; positive where the label fits the others.
    """
    n_labels = sets.shape[1]
    one_flip = torch.eye(n_labels, dtype=torch.bool, device=sets.device)
    rows = max(BLOCK // (n_labels + 1), 1)
    evidence_parts = []
    for own, features in zip(torch.split(sets, rows), torch.split(z, rows), strict=True):
        listed = torch.cat([own[:, None], own[:, None] ^ one_flip], dim=1)  # [rows, 1 + L, L]
        scores = score(listed.to(z.dtype), features)
        gained = scores[:, 1:] - scores[:, :1]  # of the flip
        evidence_parts.append(torch.where(own, -gained, gained))
    return torch.cat(evidence_parts)
