"""The decision that a user asks for, with what a run keeps for it."""

from __future__ import annotations

import math
from typing import get_args

import torch

from labeldep_cli.config import DecisionConfig, DecisionKind
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.decisions import ByCritic, ByThreshold, Decision
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.runs.run import Run


def decision_of(config: DecisionConfig, run: Run, device: torch.device) -> Decision:
    """What the user asks for, with what the run keeps for it.

    Raises:
        CheckpointError: a decision by the critic with a run that has none.
        LabeldepError: flags that do not go together, or a threshold that is none.
    """
    if config.rule not in get_args(DecisionKind):
        raise LabeldepError(
            f"there is no decision {config.rule!r}", f"Take one of {', '.join(get_args(DecisionKind))}."
        )
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
