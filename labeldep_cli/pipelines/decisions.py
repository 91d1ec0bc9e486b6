"""From logits to label sets, as the user asks for it: by thresholds, or by the critic."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.config import Decided, DecisionConfig
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.rerank import rerank, score_candidates
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.pipelines.runs import Run

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
        seen = torch.from_numpy(logits).to(z.device)
        if self.rule == "rerank":
            chosen = rerank(self.critic, seen, z, self.beta)
        else:
            found = score_candidates(self.critic, seen, z)
            chosen = best_expected_f1(found.sets, found.weights(self.beta))
        sets: NDArray[np.bool_] = chosen.cpu().numpy()
        return sets

    def to_json(self) -> dict[str, Any]:
        """Rule, beta and where it comes from."""
        return {"rule": self.rule, "beta": self.beta, "source": self.source}


def decision_of(config: DecisionConfig, run: Run, device: torch.device) -> Decision:
    """What the user asks for, with what the run keeps for it.

    Raises:
        CheckpointError: a decision by the critic with a run that has none.
        LabeldepError: flags that do not go together, or a threshold that is none.
    """
    if config.rule not in get_args(Decided):
        raise LabeldepError(f"there is no decision {config.rule!r}", f"Take one of {', '.join(get_args(Decided))}.")
    if config.beta is not None and not 0 <= config.beta < math.inf:
        raise LabeldepError(f"beta {config.beta} is no weight", "Name a number from 0 on.")
    if config.rule == "threshold":
        if config.beta is not None:
            raise LabeldepError(
                "--beta weighs the critic, which --decision threshold does not ask", "Add --decision rerank."
            )
        return ByThreshold(DecisionRule.of(config, run.facts["thresholds"]))
    if config.threshold is not None or config.top_k is not None or config.non_empty:
        raise LabeldepError(
            f"--decision {config.rule} takes no --threshold, --top-k or --non-empty",
            "The critic decides on the whole set: leave them out.",
        )
    if run.facts["critic"] is None:
        raise CheckpointError(
            f"{run.folder} has no critic, which --decision {config.rule} asks",
            "Train one: labeldep adversarial --critic nce --freeze-generator",
        )
    given = config.beta is not None
    beta = config.beta if config.beta is not None else run.facts.get("beta")
    if beta is None:
        raise CheckpointError(
            f"{run.folder} is unfinished: its --beta is not chosen yet", "Let it train on, or name one: --beta 1"
        )
    return ByCritic(run.critic(device), float(beta), "given" if given else "tuned on val", config.rule)
