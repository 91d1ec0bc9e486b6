"""From logits to label sets: by thresholds, or by the critic."""

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
from labeldep_cli.evaluation.rerank import rerank, score_candidates
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.models.discriminator import Discriminator

Features = Callable[[], Tensor]
"""Returns z [N, F] of the same rows; called only by decisions that use image features."""


class Decision(Protocol):
    """Turns logits into label sets."""

    def decide(self, logits: NDArray[np.float32], features: Features) -> NDArray[np.bool_]:
        """Logits [N, L] and, if the decision uses them, features [N, F] -> label sets bool [N, L]."""

    def to_json(self) -> dict[str, Any]:
        """The JSON value of the key `decision`."""


@dataclass(frozen=True)
class ByThreshold:
    """Decides each label by its own probability."""

    rule: DecisionRule

    def decide(self, logits: NDArray[np.float32], features: Features) -> NDArray[np.bool_]:
        """Compare probabilities with the threshold; features are ignored."""
        return self.rule.decide(probabilities(logits))

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
    """

    critic: Discriminator
    beta: float
    source: str
    rule: DecisionKind = "rerank"

    def decide(self, logits: NDArray[np.float32], features: Features) -> NDArray[np.bool_]:
        """Choose a label set for each image; the features are computed."""
        z = features()
        device_logits = torch.from_numpy(logits).to(z.device)
        if self.rule == "rerank":
            chosen = rerank(self.critic, device_logits, z, self.beta)
        else:
            candidates = score_candidates(self.critic, device_logits, z)
            chosen = best_expected_f1(candidates.sets, candidates.weights(self.beta))
        sets: NDArray[np.bool_] = chosen.cpu().numpy()
        return sets

    def to_json(self) -> dict[str, Any]:
        """The rule, beta, and where beta comes from."""
        return {"rule": self.rule, "beta": self.beta, "source": self.source}
