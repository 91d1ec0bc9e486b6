"""The candidates of a kernel critic: label sets that it knows from train, and the generator's most probable other sets.

A kernel critic estimates log p(y|x) itself, not its ratio to p_G. So the generator's weight, `prior`, may be 0. Both
weights are chosen on val. N images, K candidates per image, L labels, S known sets, R width of the similarities.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from labeldep_cli.compute.transfer import in_double
from labeldep_cli.evaluation.posterior import SetPosterior, independent, joined
from labeldep_cli.evaluation.rerank import BUDGET
from labeldep_cli.models.kernel_critic import KernelCritic
from labeldep_cli.models.known_sets import agreeing

OTHERS = 8
"""Of the BUDGET candidates of an image, those that the generator proposes."""

_BLOCK = 256  # images at a time: the scores of all known sets of 256 images take 34 MB at most; three such tables

_KEPT = 2**23
"""Scores of known sets on validation rows, 8 bytes each, that the weights are fitted to: with more sets, fewer rows."""

_START = 0.5  # of the square root of the generator's weight: from 0 its gradient would be 0

_SPREAD = 0.25
"""Standard deviation of the prior of each weight. From D alone, the weights that all rows of train fix (out of fold;
yeast, scene, miml2000, scenes) deviate by 0.2 for D and 0.3 for G, root mean square."""


class Weights(NamedTuple):
    """The exponents of a pool p_G(y|x)^prior exp(beta D(y, x)).

    Attributes:
        beta: D's weight.
        prior: G's weight.
    """

    beta: float
    prior: float


@torch.inference_mode()
def pooled_posterior(critic: KernelCritic, logits: Tensor, z: Tensor, weights: Weights) -> SetPosterior:
    """The candidates of each image with their probabilities in the pool.

    Args:
        critic: D.
        logits: of G, [N, L].
        z: image features that D takes, [N, F].
        weights: those of the pool.

    Returns:
        The rest is that of the other known sets, and of all sets that are not known: these together have the share of
        train's rows whose set occurs only once there (Good 1953), for every image the same.
    """
    parts = [
        _of_block(critic, part, critic.similarities(features.to(part.dtype)), weights)
        for part, features in zip(torch.split(logits, _BLOCK), torch.split(z, _BLOCK), strict=True)
    ]
    return joined(parts)


def _of_block(critic: KernelCritic, logits: Tensor, similarities: Tensor, weights: Weights) -> SetPosterior:
    """The known sets that are best in the pool, then the sets that G finds most probable and D does not know."""
    with torch.autocast(logits.device.type, enabled=False):
        by_generator = logits @ critic.sets.to(logits.dtype).T  # [B, S]
        known = weights.beta * critic.score_known(similarities) + weights.prior * by_generator
        best = known.topk(min(BUDGET - OTHERS, len(critic.sets)), dim=1)
        others = independent(logits, OTHERS)
        by_critic = critic.score(others.sets.to(logits.dtype), similarities)
        is_known = critic.lookup(others.sets) < len(critic.sets)
        unknown = (weights.beta * by_critic + weights.prior * others.log_p).masked_fill(is_known, -torch.inf)
        log_p = torch.cat([best.values, unknown], dim=1)
        not_listed = known.scatter(1, best.indices, -torch.inf).logsumexp(dim=1)
        total = torch.logaddexp(log_p.logsumexp(dim=1), not_listed)
        rest = torch.logaddexp(not_listed, total + critic.log_odds_unseen())
        return SetPosterior(torch.cat([critic.sets[best.indices], others.sets], dim=1), log_p, rest)


def pool_weights(critic: KernelCritic, logits: Tensor, similarities: Tensor, labels: Tensor) -> Weights:
    """Choose both weights by the likelihood of the validation rows' label sets among the known ones.

    It is a logarithmic opinion pool (Genest & Zidek 1986) of D and G, with weights of at least 0. The likelihood tells
    them apart on far fewer rows than the exact match of the sets does: on COCO's sets (simulated evidence), yeast and
    scene, 100 rows fix each weight to 0.2 or less, one standard deviation. Rows whose set is not known are left out; an
    unknown label is summed over. Where rows are few, a Gaussian prior around D alone, beta = 1, decides.

    Args:
        critic: D.
        logits: of G, [N, L].
        similarities: of the images, [N, R].
        labels: int8 [N, L]; -1 where unknown.
    """
    by_critic, by_generator, true = _known_rows(critic, logits, similarities, labels)
    theory = torch.tensor([1.0, 0.0], dtype=torch.float64, device=by_critic.device)
    roots = torch.tensor([1.0, _START], dtype=torch.float64, device=by_critic.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([roots], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        beta, prior = weights = roots.square()
        scores = beta * by_critic + prior * by_generator
        of_true = scores.masked_fill(~true, -torch.inf).logsumexp(dim=1) - scores.logsumexp(dim=1)
        found: Tensor = ((weights - theory) / _SPREAD).square().sum() / 2 - of_true.sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Weights(*roots.detach().square().tolist())


@torch.no_grad()
def _known_rows(
    critic: KernelCritic, logits: Tensor, similarities: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows with a known set, evenly spaced: the known sets' scores by D and by G, and which of them may be true.

    Returns:
        float64 [M, S], float64 [M, S], bool [M, S]; M may be 0.
    """
    sets = in_double(critic.sets)
    most = max(_KEPT // len(sets), 1)
    rows = torch.arange(len(labels), device=labels.device)[:: max(-(-len(labels) // most), 1)]
    agrees = agreeing(critic.sets, labels[rows])
    kept = agrees.any(dim=1) & (labels[rows] >= 0).any(dim=1)
    rows, true = rows[kept], agrees[kept]
    by_critic = in_double(critic.score_known(similarities[rows]))
    return by_critic, in_double(logits[rows]) @ sets.T, true.to(by_critic.device)
