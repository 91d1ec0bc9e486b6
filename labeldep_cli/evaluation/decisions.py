"""From a model's outputs to label sets, each with the probability that it is right.

Decisions are made by thresholds, by the critic, or by a head that is itself a distribution over label sets.

N images, L labels, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.config import DecisionKind
from labeldep_cli.evaluation.evaluate import collect_features, collect_posterior, probabilities, row_blocks
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.known_sets import Weights, pooled_posterior
from labeldep_cli.evaluation.posterior import SetPosterior, independent_log_probability, normalised
from labeldep_cli.evaluation.rerank import candidate_count, score_candidates
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.critics import Critic
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.kernel_critic import KernelCritic

_CANDIDATES = 2**25
"""Labels of the candidates of a block of images, one byte each; three such tables."""

_ALIGNED = 256  # blocks have a multiple of this number of images: those within a critic's scores then stay the same


@dataclass(frozen=True)
class Outputs:
    """What a decision may use of a model's outputs for N images.

    Attributes:
        logits: of the generator, float32 [N, L].
        features: returns z [N, F] of the same rows; called only by decisions that use image features.
        own: (count) -> the most probable label sets of a joint head; None if labels are independent given the logits.
    """

    logits: NDArray[np.float32]
    features: Callable[[], Tensor]
    own: Callable[[int], SetPosterior] | None = None


def outputs_of(generator: Generator, inputs: Inputs, logits: NDArray[np.float32]) -> Outputs:
    """The outputs for rows whose logits [N, L] are known. What else a decision asks for takes one more pass, once."""
    own = cache(lambda count: collect_posterior(generator, inputs, count)) if generator.head.joint else None
    return Outputs(logits, cache(lambda: collect_features(inputs)), own)


@dataclass(frozen=True)
class Decided:
    """The label sets of N images.

    Attributes:
        sets: bool [N, L].
        confidence: p(set|x) of each set, the probability that it is exactly right, float64 [N], 0..1.
        at: the confidence at another temperature, to choose one; None if the decision has no temperature.
        fitted: whether the probabilities already come from a fit to the likelihood of val's label sets.
    """

    sets: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    at: Callable[[float], NDArray[np.float64]] | None = None
    fitted: bool = False


class Decision(Protocol):
    """Turns outputs into label sets."""

    def decide(self, outputs: Outputs) -> Decided:
        """The label set of each image."""

    def to_json(self) -> dict[str, Any]:
        """The JSON value of the key `decision`."""


@dataclass(frozen=True)
class ByThreshold:
    """Decides each label by its own probability.

    Attributes:
        rule: the threshold.
        temperature: of the confidence, chosen on val.
    """

    rule: DecisionRule
    temperature: float = 1.0

    def decide(self, outputs: Outputs) -> Decided:
        """Compare probabilities with the threshold; the confidence is a product over independent labels."""
        logits, blocks = outputs.logits, list(row_blocks(outputs.logits))
        sets = np.concatenate([self.rule.decide(probabilities(logits[rows])) for rows in blocks])

        def at(temperature: float) -> NDArray[np.float64]:
            parts = [
                independent_log_probability(
                    torch.from_numpy(logits[rows]).double(), torch.from_numpy(sets[rows]), temperature
                )
                for rows in blocks
            ]
            p: NDArray[np.float64] = torch.cat(parts).exp().numpy()
            return p

        return Decided(sets, at(self.temperature), at)

    def to_json(self) -> dict[str, Any]:
        """The JSON value of the rule (`DecisionRule.to_json`)."""
        return self.rule.to_json()


@dataclass(frozen=True)
class ByCritic:
    """Decides by p_G(y|x)^prior exp(beta D(y, x)): takes the most probable set, or that with the best expected F1.

    Attributes:
        critic: D.
        beta: D's weight.
        source: where beta comes from, for the record.
        prior: the generator's weight; 1 for a critic that is a ratio to p_G.
        rule: "rerank" for the most probable set, "expected-f1" for the set with the best expected F1.
        temperature: of the confidence, chosen on val.
    """

    critic: Critic
    beta: float
    source: str
    rule: DecisionKind = "rerank"
    temperature: float = 1.0
    prior: float = 1.0

    def decide(self, outputs: Outputs) -> Decided:
        """Choose a label set for each image; the features are computed."""
        z = outputs.features()
        logits = torch.from_numpy(outputs.logits).to(z.device)
        own = outputs.own(candidate_count(logits.shape[1])) if outputs.own else None

        def posterior(rows: slice) -> SetPosterior:
            if isinstance(self.critic, KernelCritic):
                return pooled_posterior(self.critic, logits[rows], z[rows], Weights(self.beta, self.prior))
            candidates = score_candidates(self.critic, logits[rows], z[rows], own[rows] if own else None)
            return candidates.posterior(self.beta)

        decided = _chosen(posterior, outputs, self.rule, self.temperature)
        return replace(decided, fitted=isinstance(self.critic, KernelCritic))

    def to_json(self) -> dict[str, Any]:
        """The rule, beta, where beta comes from, and for a kernel critic the generator's weight."""
        record = {"rule": self.rule, "beta": self.beta, "source": self.source}
        return {**record, "prior": self.prior} if isinstance(self.critic, KernelCritic) else record


@dataclass(frozen=True)
class ByOwnPosterior:
    """Decides by p(y|x) of a joint head: takes the most probable set, or the set with the best expected F1.

    Attributes:
        rule: "rerank" for the most probable set, "expected-f1" for the set with the best expected F1.
        temperature: of the confidence, chosen on val.
    """

    rule: DecisionKind = "rerank"
    temperature: float = 1.0

    def decide(self, outputs: Outputs) -> Decided:
        """Choose a label set for each image among the head's most probable ones; no image features are used."""
        if outputs.own is None:
            raise ValueError("these outputs are not those of a joint head")
        own = outputs.own(candidate_count(outputs.logits.shape[1]))
        return _chosen(own.__getitem__, outputs, self.rule, self.temperature)

    def to_json(self) -> dict[str, Any]:
        """The rule, and what decides."""
        return {"rule": self.rule, "source": "own posterior of the head"}


def _chosen(
    posterior: Callable[[slice], SetPosterior], outputs: Outputs, rule: DecisionKind, temperature: float
) -> Decided:
    """Choose a label set for each image.

    Candidates are K sets of L labels for each image. So they are made for a block of images, and only what a confidence
    needs is kept.

    Args:
        posterior: the candidates of some rows.
        outputs: the N rows.
        rule, temperature: of the decision.
    """
    n, width = outputs.logits.shape
    step = _ALIGNED * max(_CANDIDATES // (_ALIGNED * candidate_count(width) * max(width, 1)), 1)
    parts = [_weighed(posterior(slice(start, start + step)), rule) for start in range(0, max(n, 1), step)]
    chosen, same, log_p, rest = (torch.cat(column) for column in zip(*parts, strict=True))

    def at(temperature: float) -> NDArray[np.float64]:
        weights = normalised(log_p, rest, temperature)
        p: NDArray[np.float64] = (weights * same).sum(dim=1).cpu().double().numpy()
        return p

    return Decided(chosen.cpu().numpy(), at(temperature), at)


def _weighed(posterior: SetPosterior, rule: DecisionKind) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The chosen sets bool [N, L], which candidates they are [N, K], the candidates' log p [N, K], and the rest [N]."""
    chosen = posterior.best() if rule == "rerank" else best_expected_f1(posterior.sets, posterior.probabilities())
    return chosen, (posterior.sets == chosen[:, None]).all(dim=2), posterior.log_p, posterior.rest
