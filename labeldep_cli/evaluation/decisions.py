"""From a model's outputs to label sets, each with the probability that it is right: by thresholds, or by the critic.

N images, L labels, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.config import DecisionKind
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.posterior import independent_log_probability
from labeldep_cli.evaluation.rerank import score_candidates
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.models.members import Critic


@dataclass(frozen=True)
class Outputs:
    """What a decision may use of a model's outputs for N images.

    Attributes:
        logits: of the generator, float32 [N, L].
        features: returns z [N, F] of the same rows; called only by decisions that use image features.
    """

    logits: NDArray[np.float32]
    features: Callable[[], Tensor]


@dataclass(frozen=True)
class Decided:
    """The label sets of N images.

    Attributes:
        sets: bool [N, L].
        confidence: p(set|x) of each set, the probability that it is exactly right, float64 [N], 0..1.
    """

    sets: NDArray[np.bool_]
    confidence: NDArray[np.float64]


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
        sets = self.rule.decide(probabilities(outputs.logits))
        logits = torch.from_numpy(outputs.logits).double()
        log_p = independent_log_probability(logits, torch.from_numpy(sets), self.temperature)
        return Decided(sets, log_p.exp().numpy())

    def to_json(self) -> dict[str, Any]:
        """The JSON value of the rule (`DecisionRule.to_json`)."""
        return self.rule.to_json()


@dataclass(frozen=True)
class ByCritic:
    """Decides by p_G(y|x) exp(beta D(y, x)): takes the most probable set, or the set with the best expected F1.

    Attributes:
        critic: D.
        beta: D's weight.
        source: where beta comes from, for the record.
        rule: "rerank" for the most probable set, "expected-f1" for the set with the best expected F1.
        temperature: of the confidence, chosen on val.
    """

    critic: Critic
    beta: float
    source: str
    rule: DecisionKind = "rerank"
    temperature: float = 1.0

    def decide(self, outputs: Outputs) -> Decided:
        """Choose a label set for each image; the features are computed."""
        z = outputs.features()
        logits = torch.from_numpy(outputs.logits).to(z.device)
        posterior = score_candidates(self.critic, logits, z).posterior(self.beta)
        if self.rule == "rerank":
            chosen = posterior.best()
        else:
            chosen = best_expected_f1(posterior.sets, posterior.probabilities())
        confidence = posterior.probability_of(chosen, self.temperature)
        return Decided(chosen.cpu().numpy(), confidence.double().cpu().numpy())

    def to_json(self) -> dict[str, Any]:
        """The rule, beta, and where beta comes from."""
        return {"rule": self.rule, "beta": self.beta, "source": self.source}
