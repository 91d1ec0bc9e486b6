"""The critic's evidence for single labels: how much its score rises when one label is added to the set."""

from __future__ import annotations

import torch
from torch import Tensor

from labeldep_cli.evaluation.rerank import BLOCK, Score


@torch.inference_mode()
def critic_evidence(score: Score, sets: Tensor, z: Tensor) -> Tensor:
    """D(y with the label, x) - D(y without it, x) for each label, with the other labels unchanged.

    A density-ratio critic (`--critic nce`) estimates log p(y|x) / p_G(y|x). Then this difference is what the other
    labels add to the logit of the label, so beta times the difference and G's logit are on one scale.

    Args:
        score: D.
        sets: label sets bool [N, L].
        z: image features that D takes, [N, F].

    Returns:
        float [N, L]; positive where the label fits the others.
    """
    n_labels = sets.shape[1]
    one_flip = torch.eye(n_labels, dtype=torch.bool, device=sets.device)
    rows = max(BLOCK // (n_labels + 1), 1)
    evidence_parts = []
    for block, features in zip(torch.split(sets, rows), torch.split(z, rows), strict=True):
        candidates = torch.cat([block[:, None], block[:, None] ^ one_flip], dim=1)  # [rows, 1 + L, L]
        scores = score(candidates.to(z.dtype), features)
        gain = scores[:, 1:] - scores[:, :1]  # of flipping the label
        evidence_parts.append(torch.where(block, -gain, gain))
    return torch.cat(evidence_parts)
