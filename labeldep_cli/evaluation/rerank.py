"""The critic at test time: label sets weighed by p_G(y|x) exp(beta D(y, x)).

The paper drops D when training ends. D still knows what a threshold on independent probabilities cannot: which labels
go together. A critic trained as a density ratio (`--critic nce`) estimates log p(y|x) / p_G(y|x), so that beta = 1
weighs sets by p(y|x) itself.

Every image has a list of candidates, the sets that G finds most probable, and the critic scores each of them once. Of
all ways tried to spend the same number of rows (fewer candidates, then flips of the best one, by cost, by D's gradient
or by what the first rows taught) none found the best set more often.

N images, K candidates an image, L labels, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from labeldep_cli.evaluation.candidates import most_probable_sets

Score = Callable[[Tensor, Tensor], Tensor]
"""D: (K label sets of each image [N, K, L], features [N, F]) -> scores [N, K]."""

BUDGET = 32
"""Label sets of an image that D scores: its rows are the cost of a decision."""

EXACT_LABELS = 8
"""Up to so many labels every set is a candidate, 256 at most."""

BLOCK = 8192
"""Label sets that D scores in one pass: images are taken in blocks of so many, and memory does not grow with N."""

BETAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Weights that validation chooses from. A density ratio's is about 1; a Wasserstein critic's scale is its own."""


@dataclass(frozen=True)
class Candidates:
    """Scored label sets of each image.

    Attributes:
        sets: bool [N, K, L], by p_G, the most probable first.
        log_prior: log p_G(y|x) but for a constant of the image, [N, K].
        critic: D(y, x) [N, K].
    """

    sets: Tensor
    log_prior: Tensor
    critic: Tensor

    def best(self, beta: float) -> Tensor:
        """The set with the best log p_G(y|x) + beta D(y, x), of several the most probable: bool [N, L]."""
        choice = (self.log_prior + beta * self.critic).argmax(dim=1)
        return self.sets[torch.arange(len(choice), device=choice.device), choice]

    def weights(self, beta: float) -> Tensor:
        """p_G(y|x) exp(beta D(y, x)), normalised over an image's candidates, [N, K]."""
        return torch.softmax(self.log_prior + beta * self.critic, dim=1)


@torch.inference_mode()
def score_candidates(score: Score, logits: Tensor, z: Tensor) -> Candidates:
    """List and score each image's candidates.

    Args:
        score: D.
        logits: of G, [N, L].
        z: features as D sees them, [N, F].

    Returns:
        The BUDGET most probable sets of each image, or all 2^L where L is at most EXACT_LABELS.
    """
    width = logits.shape[1]
    count = 2**width if width <= EXACT_LABELS else BUDGET
    rows = max(BLOCK // count, 1)
    sets, priors, critic = [], [], []
    for part in (slice(start, start + rows) for start in range(0, len(logits), rows)):
        own = logits[part]
        listed = most_probable_sets(own, count)
        y = listed.to(own.dtype)
        sets.append(listed)
        with torch.autocast(own.device.type, enabled=False):  # a decision hangs on small differences of these sums
            priors.append((y @ own[:, :, None]).squeeze(2))
        critic.append(score(y, z[part]))
    return Candidates(torch.cat(sets), torch.cat(priors), torch.cat(critic))


def rerank(score: Score, logits: Tensor, z: Tensor, beta: float) -> Tensor:
    """Each image's label set with the best log p_G(y|x) + beta * D(y, x) among its candidates.

    Args:
        score: D.
        logits: of G, [N, L].
        z: features as D sees them, [N, F].
        beta: weight of D; 0 gives the sets of the threshold 0.5.

    Returns:
        bool [N, L].
    """
    return logits > 0 if beta == 0 else score_candidates(score, logits, z).best(beta)


def tune_beta(score: Score, logits: Tensor, z: Tensor, labels: Tensor, expected: float | None = None) -> float:
    """Choose the critic's weight on validation rows, by the share of sets that are right.

    Args:
        score: D.
        logits: of G, [N, L].
        z: features [N, F].
        labels: int8 [N, L]; -1 where unknown, which counts nowhere.
        expected: the weight that theory gives, 1 for a density ratio. Val is often too small to tell neighbouring
            weights apart: of those not worse than the best by more than two standard errors (of the images on which
            the two differ, as in McNemar's test), the one nearest to it is taken. None for the best itself, of several
            the smallest.

    Returns:
        One of BETAS.
    """
    found = score_candidates(score, logits, z)
    right = torch.stack([_exact_matches(found.best(beta), labels) for beta in BETAS])  # [betas, N]
    best = int(right.sum(dim=1).argmax())
    if expected is None:
        return BETAS[best]
    lost = right[best] - right  # 1 or -1 where the two differ
    as_good = (lost.sum(dim=1) <= 2 * lost.abs().sum(dim=1).sqrt()).tolist()
    return min((beta for beta, good in zip(BETAS, as_good, strict=True) if good), key=lambda beta: abs(beta - expected))


def _exact_matches(sets: Tensor, labels: Tensor) -> Tensor:
    """1 where all known labels of an image are right, [N]."""
    return ((sets == (labels > 0)) | (labels < 0)).all(dim=1).float()
