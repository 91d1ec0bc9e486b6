"""p(y|x) over a few candidate label sets of each image.

N images, K candidates per image, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from labeldep_cli.evaluation.candidates import most_probable_sets
from labeldep_cli.models.generator import Generator


@dataclass(frozen=True)
class SetPosterior:
    """Label sets of each image with their log probabilities. All other sets have the probability 0.

    Attributes:
        sets: bool [N, K, L]; no set of an image occurs twice with a finite log probability.
        log_p: log p(y|x) up to a constant that depends only on the image, [N, K]; -inf for a candidate to ignore.
    """

    sets: Tensor
    log_p: Tensor

    def best(self) -> Tensor:
        """The most probable set of each image, bool [N, L]; of equally probable ones the first."""
        choice = self.log_p.argmax(dim=1)
        return self.sets[torch.arange(len(choice), device=choice.device), choice]

    def probabilities(self, temperature: float = 1.0) -> Tensor:
        """The probabilities of the candidates, [N, K]; they sum to 1. A temperature above 1 makes them more equal."""
        return torch.softmax(self.log_p / temperature, dim=1)


def own_posterior(generator: Generator, features: Tensor, logits: Tensor, count: int) -> SetPosterior:
    """G's most probable label sets: those of its joint head, or those of independent labels.

    Args:
        generator: G.
        features: of its encoder, [N, F] or [N, S, F].
        logits: of G for the same rows, [N, L].
        count: maximum number of sets per image.
    """
    if generator.head.joint:
        return SetPosterior(*generator.posterior(features, count))
    return independent(logits, count)


def independent(logits: Tensor, count: int) -> SetPosterior:
    """The most probable sets of independent labels.

    Args:
        logits: [N, L].
        count: maximum number of sets per image.
    """
    sets = most_probable_sets(logits, count)
    with torch.autocast(logits.device.type, enabled=False):  # a decision depends on small differences of these sums
        log_p = (sets.to(logits.dtype) @ logits[:, :, None]).squeeze(2)
    return SetPosterior(sets, log_p)


def independent_log_probability(logits: Tensor, sets: Tensor, temperature: float = 1.0) -> Tensor:
    """Log p(y|x) of one set per image under independent labels: the product of p or 1 - p over all labels, [N].

    Args:
        logits: [N, L].
        sets: bool [N, L].
        temperature: the logits are divided by it.
    """
    return logsigmoid(torch.where(sets, logits, -logits) / temperature).sum(dim=1)
