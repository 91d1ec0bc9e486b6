"""The critic at test time: label sets weighted by p_G(y|x) exp(beta D(y, x)).

The paper drops D when training ends. But D knows something that a threshold on independent probabilities does not:
which labels occur together. A critic trained as a density ratio (`--critic nce`) estimates log p(y|x) / p_G(y|x), so
beta = 1 weights sets by p(y|x) itself.

The candidates of an image are the sets that are most probable under G. The critic scores each of them once. Other ways
to spend the same number of D's rows were tried: fewer candidates, then flips of the best one, chosen by cost, by D's
gradient or by what was learned from the first rows. None of them found the best set more often.

N images, K candidates per image, L labels, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labeldep_cli.evaluation.posterior import SetPosterior, independent, joined

Score = Callable[[Tensor, Tensor], Tensor]
"""D: (K label sets of each image [N, K, L], features [N, F]) -> scores [N, K]."""

BUDGET = 32
"""Label sets per image that D scores. They are the main cost of a decision."""

EXACT_LABELS = 8
"""With at most this many labels, all 2^L sets (256 at most) are candidates."""

BLOCK = 8192
"""Label sets that D scores in one pass. Images are scored in blocks, so that memory does not grow with N."""

BETAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
"""Values of beta to choose from on validation rows. A density ratio needs about 1; a Wasserstein critic has no fixed
scale."""


@dataclass(frozen=True)
class Candidates:
    """Scored label sets of each image.

    Attributes:
        own: the sets with log p_G(y|x).
        critic: D(y, x) [N, K].
    """

    own: SetPosterior
    critic: Tensor

    def posterior(self, beta: float) -> SetPosterior:
        """p(y|x), proportional to p_G(y|x) exp(beta D(y, x)); equally probable sets stay in their order.

        Sets that are not candidates have no score. They keep the probability that G gives them together.
        """
        log_p = self.own.log_p + beta * self.critic
        change = log_p.logsumexp(dim=1) - self.own.log_p.logsumexp(dim=1)
        return SetPosterior(self.own.sets, log_p, self.own.rest + change)


@torch.inference_mode()
def score_candidates(score: Score, logits: Tensor, z: Tensor, own: SetPosterior | None = None) -> Candidates:
    """List and score the candidates of each image.

    Args:
        score: D.
        logits: of G, [N, L].
        z: image features that D takes, [N, F].
        own: the candidates; None for those of independent labels.

    Returns:
        The BUDGET most probable sets of each image, or all 2^L sets if L is at most EXACT_LABELS.
    """
    count = candidate_count(logits.shape[1])
    rows = max(BLOCK // count, 1)
    own = joined([independent(part, count) for part in torch.split(logits, rows)]) if own is None else own
    scores = torch.empty_like(own.log_p)  # whole from the start: small results between large maps would split the heap
    for part in (slice(start, start + rows) for start in range(0, len(z), rows)):
        scores[part] = score(own.sets[part].to(logits.dtype), z[part])
    return Candidates(own, scores)


def candidate_count(n_labels: int) -> int:
    """Candidates per image: BUDGET, or all 2^L sets if L is at most EXACT_LABELS."""
    return 2**n_labels if n_labels <= EXACT_LABELS else BUDGET


def rerank(score: Score, logits: Tensor, z: Tensor, beta: float) -> Tensor:
    """For each image the candidate with the best log p_G(y|x) + beta * D(y, x).

    Args:
        score: D.
        logits: of G, [N, L].
        z: image features that D takes, [N, F].
        beta: weight of D; 0 gives the sets of the threshold 0.5.

    Returns:
        bool [N, L].
    """
    return logits > 0 if beta == 0 else score_candidates(score, logits, z).posterior(beta).best()


def tune_beta(
    score: Score,
    logits: Tensor,
    z: Tensor,
    labels: Tensor,
    expected: float | None = None,
    own: SetPosterior | None = None,
) -> float:
    """Choose the critic's weight beta by the exact match on validation rows.

    Validation sets are often too small to tell neighbouring weights apart. So with `expected`, all weights are equally
    good that are worse than the best by at most two standard errors (of the images on which the two differ, as in
    McNemar's test). Of these the weight nearest to `expected` is taken.

    Args:
        score: D.
        logits: of G, [N, L].
        z: features [N, F].
        labels: int8 [N, L]; -1 where unknown. Unknown labels are ignored.
        expected: the weight according to theory, 1 for a density ratio; None to take the best weight, and of several
            best ones the smallest.
        own: the candidates; None for those of independent labels.

    Returns:
        One of BETAS.
    """
    candidates = score_candidates(score, logits, z, own)
    right = torch.stack([exact_matches(candidates.posterior(beta).best(), labels) for beta in BETAS])  # [betas, N]
    return BETAS[int(right.sum(dim=1).argmax())] if expected is None else nearest_of_best(BETAS, right, expected)


def nearest_of_best(weights: Sequence[float], right: Tensor, expected: float) -> float:
    """The weight nearest to `expected` among those that are as good as the best one, by two standard errors.

    Args:
        weights: W weights to choose from.
        right: 1 where the sets under a weight are exactly right, else 0, [W, N].
        expected: the weight to prefer.
    """
    deficit = right[right.sum(dim=1).argmax()] - right  # 1 or -1 where the two differ
    as_good = (deficit.sum(dim=1) <= 2 * deficit.abs().sum(dim=1).sqrt()).tolist()
    return min((one for one, good in zip(weights, as_good, strict=True) if good), key=lambda one: abs(one - expected))


def exact_matches(sets: Tensor, labels: Tensor) -> Tensor:
    """1 where all known labels of an image are correct, else 0; float [N]."""
    return ((sets == (labels > 0)) | (labels < 0)).all(dim=1).float()
