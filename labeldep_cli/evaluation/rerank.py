"""The critic at test time: the label set with the best log p_G(y|x) + beta * D(y, x).

The paper drops D when training ends. D still knows what a threshold on independent probabilities cannot: which labels
go together. A critic trained as a density ratio (`--critic nce`) estimates log p(y|x) / p_G(y|x), so that beta = 1
searches the mode of p(y|x) itself; beta is chosen on validation rows.

N images, L labels, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor, Tensor], Tensor]
"""D: (label sets [B, L], features [B, F]) -> scores [B]."""

EXACT_LABELS = 8
"""Up to so many labels every set is tried; beyond, sets are searched by flipping one label at a time."""

CANDIDATES = 20
"""Labels of an image that may be flipped: those that G is least sure of. The others are as good as decided."""

MAX_FLIPS = 30
"""Flips an image at most; a search ends when no flip raises the objective, long before."""

_SCORED = 8192
"""Label sets that D scores in one pass: images are searched in blocks of so many, and memory does not grow with N."""


BETAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Weights that validation chooses from. A density ratio's is about 1; a Wasserstein critic's scale is its own."""


def tune_beta(score: Score, logits: Tensor, z: Tensor, labels: Tensor) -> float:
    """Choose the critic's weight on validation rows: the one with the most sets right, of several the smallest.

    Args:
        score: D.
        logits: of G, [N, L].
        z: features [N, F].
        labels: int8 [N, L]; -1 where unknown, which counts nowhere.

    Returns:
        One of BETAS.
    """
    right = [_exact_matches(rerank(score, logits, z, beta), labels) for beta in BETAS]
    return BETAS[right.index(max(right))]


def _exact_matches(sets: Tensor, labels: Tensor) -> int:
    return int(((sets == (labels > 0)) | (labels < 0)).all(dim=1).sum())


@torch.inference_mode()
def rerank(score: Score, logits: Tensor, z: Tensor, beta: float) -> Tensor:
    """Search each image's label set with the best log p_G(y|x) + beta * D(y, x).

    Args:
        score: D.
        logits: of G, [N, L].
        z: features as D sees them, [N, F].
        beta: weight of D; 0 gives the sets of the threshold 0.5.

    Returns:
        bool [N, L].
    """
    if beta == 0:
        return logits > 0
    width = logits.shape[1]
    exact = width <= EXACT_LABELS
    search, options = (_exact, 2**width) if exact else (_flips, min(CANDIDATES, width))
    rows = max(_SCORED // options, 1)
    parts = [slice(start, start + rows) for start in range(0, len(logits), rows)]
    return torch.cat([search(score, logits[part], z[part], beta) for part in parts])


def _exact(score: Score, logits: Tensor, z: Tensor, beta: float) -> Tensor:
    """Try all 2^L sets."""
    width = logits.shape[1]
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * width).view(-1, width).to(logits)  # [2^L, L]
    critic = score(every.repeat(len(logits), 1), z.repeat_interleave(len(every), dim=0)).view(len(logits), -1)
    return every[(logits @ every.T + beta * critic).argmax(dim=1)] > 0


def _flips(score: Score, logits: Tensor, z: Tensor, beta: float) -> Tensor:
    """Flip, from the sets of the threshold 0.5, the one label that raises the objective most, until none does."""
    sets = (logits > 0).to(logits.dtype)  # [N, L]
    candidates = logits.abs().topk(min(CANDIDATES, logits.shape[1]), largest=False).indices  # [N, C]
    current = _objective(score, sets, logits, z, beta)  # [N]
    active = torch.arange(len(sets), device=sets.device)
    for _ in range(MAX_FLIPS):
        if len(active) == 0:
            break
        options = _one_flip_away(sets[active], candidates[active])  # [A, C, L]
        shape = options.shape[:2]
        rows = active.repeat_interleave(shape[1])
        values = _objective(score, options.flatten(0, 1), logits[rows], z[rows], beta).view(shape)
        value, choice = values.max(dim=1)
        better = value > current[active] + 1e-6  # rounding alone must not flip a label back and forth
        improved = active[better]
        sets[improved] = options[better, choice[better]]
        current[improved] = value[better]
        active = improved
    return sets > 0


def _one_flip_away(sets: Tensor, candidates: Tensor) -> Tensor:
    """Sets [A, L] and labels that may flip [A, C] -> all sets one flip away [A, C, L]."""
    options = sets[:, None, :].repeat(1, candidates.shape[1], 1)
    flipped = 1 - options.gather(2, candidates[:, :, None])
    return options.scatter(2, candidates[:, :, None], flipped)


def _objective(score: Score, sets: Tensor, logits: Tensor, z: Tensor, beta: float) -> Tensor:
    """The objective log p_G(y|x) + beta D(y, x) but for a constant of the image: y . logits + beta D. [B]."""
    return (sets * logits).sum(dim=1) + beta * score(sets, z)
