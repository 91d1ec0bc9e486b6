"""From logits to label sets: by thresholds, or by the critic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.config import Decided
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.rerank import rerank, score_candidates
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.models.discriminator import Discriminator

Features = Callable[[], Tensor]
"""Gives z [N, F] of the same rows; called only where the decision looks at the images."""


class Decision(Protocol):
    """Makes label sets."""

    def decide(self, logits: NDArray[np.float32], features: Features) -> NDArray[np.bool_]:
        """Logits [N, L] and, if need be, features [N, F] -> label sets bool [N, L]."""

    def to_json(self) -> dict[str, Any]:
        """The record under `decision`."""


@dataclass(frozen=True)
class ByThreshold:
    """Each label by its own probability."""

    rule: DecisionRule

    def decide(self, logits: NDArray[np.float32], features: Features) -> NDArray[np.bool_]:
        """Compare probabilities with the threshold; features are not looked at."""
        return self.rule.decide(probabilities(logits))

    def to_json(self) -> dict[str, Any]:
        """The rule's own record."""
        return self.rule.to_json()


@dataclass(frozen=True)
class ByCritic:
    """By p_G(y|x) exp(beta D(y, x)): the most probable set, or with "expected-f1" the one with the best expected F1."""

    critic: Discriminator
    beta: float
    source: str
    rule: Decided = "rerank"

    def decide(self, logits: NDArray[np.float32], features: Features) -> NDArray[np.bool_]:
        """Choose label sets."""
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
        """Rule, beta and where it comes from."""
        return {"rule": self.rule, "beta": self.beta, "source": self.source}
