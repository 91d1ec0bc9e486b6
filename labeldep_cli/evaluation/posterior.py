"""p(y|x) over a few candidate label sets of each image, and what is left for all other sets.

N images, K candidates per image, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from labeldep_cli.compute.transfer import in_double
from labeldep_cli.evaluation.candidates import most_probable_sets
from labeldep_cli.models.generator import Generator

_ROUNDING = 1e-5
"""Sums of float32 probabilities are this near to 1 where nothing is left. A high temperature would make a set of it."""


@dataclass(frozen=True)
class SetPosterior:
    """Label sets of each image with their log probabilities.

    Attributes:
        sets: bool [N, K, L]; no set of an image occurs twice with a finite log probability.
        log_p: log p(y|x) up to a constant that depends only on the image, [N, K]; -inf for a candidate to ignore.
        rest: the log of what all other sets have together, up to the same constant, [N]; -inf if there are none. A
            confidence needs it: the best of 32 sets is not likely to be right if the others had more together.
    """

    sets: Tensor
    log_p: Tensor
    rest: Tensor

    @staticmethod
    def out_of(sets: Tensor, log_p: Tensor, total: Tensor) -> SetPosterior:
        """Some sets of a distribution over all sets, whose probabilities sum to exp(total) for each image, [N]."""
        return SetPosterior(sets, log_p, total + _log_left(log_p - total[:, None]))

    def __getitem__(self, rows: slice) -> SetPosterior:
        """The posterior of some images."""
        return SetPosterior(self.sets[rows], self.log_p[rows], self.rest[rows])

    def best(self) -> Tensor:
        """The most probable set of each image, bool [N, L]; of equally probable ones the first."""
        choice = self.log_p.argmax(dim=1)
        return self.sets[torch.arange(len(choice), device=choice.device), choice]

    def probabilities(self, temperature: float = 1.0) -> Tensor:
        """The probabilities of the candidates, [N, K]; with the rest they sum to 1.

        A temperature above 1 makes them more equal. The rest counts as one set there.
        """
        return normalised(self.log_p, self.rest, temperature)


def normalised(log_p: Tensor, rest: Tensor, temperature: float = 1.0) -> Tensor:
    """The probabilities of `SetPosterior.probabilities` from log p [N, K] and the rest [N]."""
    return torch.softmax(torch.cat([log_p, rest[:, None]], dim=1) / temperature, dim=1)[:, :-1]


def own_posterior(generator: Generator, features: Tensor, count: int) -> SetPosterior:
    """The most probable label sets of a joint head.

    Args:
        generator: G.
        features: of its encoder, [N, F] or [N, S, F].
        count: maximum number of sets per image.
    """
    sets, log_p = generator.posterior(features, count)
    return SetPosterior.out_of(sets, log_p, log_p.new_zeros(len(log_p)))


def independent(logits: Tensor, count: int) -> SetPosterior:
    """The most probable sets of independent labels.

    Args:
        logits: [N, L].
        count: maximum number of sets per image.
    """
    sets = most_probable_sets(logits, count)
    with torch.autocast(logits.device.type, enabled=False):  # a decision depends on small differences of these sums
        log_p = (sets.to(logits.dtype) @ logits[:, :, None]).squeeze(2)
        return SetPosterior.out_of(sets, log_p, softplus(logits).sum(dim=1))


def joined(parts: Sequence[SetPosterior]) -> SetPosterior:
    """The posteriors of some rows, then those of others; all with the same number of candidates."""
    names = ("sets", "log_p", "rest")
    return SetPosterior(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def independent_log_probability(logits: Tensor, sets: Tensor, temperature: float = 1.0) -> Tensor:
    """Log p(y|x) of one set per image under independent labels: the product of p or 1 - p over all labels, [N].

    Args:
        logits: [N, L].
        sets: bool [N, L].
        temperature: the logits are divided by it.
    """
    return logsigmoid(torch.where(sets, logits, -logits) / temperature).sum(dim=1)


def _log_left(log_p: Tensor) -> Tensor:
    """The log of 1 minus the summed probabilities [N, K]; -inf where they sum to 1, up to rounding."""
    left = 1 - in_double(log_p).exp().sum(dim=1)
    return left.where(left > _ROUNDING, 0.0).log().to(log_p)
