"""The candidates of a kernel critic: label sets that it knows from train, and the generator's most probable other sets.

A kernel critic estimates log p(y|x) itself, not its ratio to p_G. So the generator's weight, `prior`, may be 0, and is
chosen on val. N images, K candidates per image, L labels, S known sets, R width of the similarities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labeldep_cli.evaluation.posterior import SetPosterior, independent
from labeldep_cli.evaluation.rerank import BUDGET, Candidates, exact_matches, nearest_of_best
from labeldep_cli.models.kernel_critic import KernelCritic

OTHERS = 8
"""Of the BUDGET candidates of an image, those that the generator proposes."""

PRIORS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
"""Weights of the generator to choose from on validation rows."""

EXPECTED_PRIOR = 0.25
"""The weight to take where the validation rows are too few to tell. On those of yeast, corel5k, the drawn scenes and
COCO's sets (simulated evidence) it is within half a point of the best one."""

_EXCLUDED = -1e9  # D of a candidate to ignore; finite, so that it may be multiplied by a weight of 0
_BLOCK = 256  # images at a time: the scores of all known sets of 256 images take 34 MB at most


@torch.inference_mode()
def score_known_sets(critic: KernelCritic, logits: Tensor, z: Tensor, prior: float) -> Candidates:
    """List and score the candidates of each image.

    Args:
        critic: D.
        logits: of G, [N, L].
        z: image features that D takes, [N, F].
        prior: weight of log p_G in the choice of candidates.
    """
    parts = [
        _candidates(critic, part, critic.similarities(features.to(part.dtype)), prior)
        for part, features in zip(torch.split(logits, _BLOCK), torch.split(z, _BLOCK), strict=True)
    ]
    return _joined(parts)


def _candidates(critic: KernelCritic, logits: Tensor, similarities: Tensor, prior: float) -> Candidates:
    """The known sets with the best log p_G^prior + D, then the sets that G finds most probable and D does not know."""
    with torch.autocast(logits.device.type, enabled=False):
        by_critic = critic.score_known(similarities)  # [B, S]
        by_generator = logits @ critic.sets.to(logits.dtype).T
        best = (prior * by_generator + by_critic).topk(min(BUDGET - OTHERS, len(critic.sets)), dim=1).indices
        others = independent(logits, OTHERS)
        scores = critic.score(others.sets.to(logits.dtype), similarities)
        is_known = critic.lookup(others.sets) < len(critic.sets)
        return Candidates(
            SetPosterior(
                torch.cat([critic.sets[best], others.sets], dim=1),
                torch.cat([by_generator.gather(1, best), others.log_p], dim=1),
            ),
            torch.cat([by_critic.gather(1, best), scores.masked_fill(is_known, _EXCLUDED)], dim=1),
        )


def _joined(parts: list[Candidates]) -> Candidates:
    return Candidates(
        SetPosterior(torch.cat([part.own.sets for part in parts]), torch.cat([part.own.log_p for part in parts])),
        torch.cat([part.critic for part in parts]),
    )


@torch.inference_mode()
def tune_prior(critic: KernelCritic, logits: Tensor, similarities: Tensor, labels: Tensor) -> float:
    """Choose G's weight by the exact match on validation rows: the best, or EXPECTED_PRIOR if it is as good.

    Args:
        critic: D.
        logits: of G, [N, L].
        similarities: of the images, [N, R].
        labels: int8 [N, L]; -1 where unknown. Unknown labels are ignored.
    """
    blocks = list(zip(torch.split(logits, _BLOCK), torch.split(similarities, _BLOCK), strict=True))
    right = [
        exact_matches(
            _joined([_candidates(critic, *block, prior) for block in blocks]).posterior(1, prior).best(), labels
        )
        for prior in PRIORS
    ]
    return nearest_of_best(PRIORS, torch.stack(right), EXPECTED_PRIOR)
