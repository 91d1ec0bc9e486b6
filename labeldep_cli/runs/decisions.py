"""The decision rule that a user requests, with the values that a run has stored for it."""

from __future__ import annotations

import math
from typing import get_args

import torch

from labeldep_cli.config import DecisionConfig, DecisionKind
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.decisions import ByCritic, ByOwnPosterior, ByThreshold, Decision
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.runs.run import Run


def decision_of(config: DecisionConfig, run: Run, device: torch.device) -> Decision:
    """Make the requested decision, with the run's thresholds, critic and beta; without a critic by its joint head.

    Raises:
        CheckpointError: a decision by the critic for a run that has none, or that has no beta yet.
        LabeldepError: flags that do not go together, or a value that is out of range.
    """
    if config.rule not in get_args(DecisionKind):
        raise LabeldepError(
            f"there is no decision {config.rule!r}", f"Take one of {', '.join(get_args(DecisionKind))}."
        )
    if config.beta is not None and not 0 <= config.beta < math.inf:
        raise LabeldepError(f"beta {config.beta} is not a valid weight", "Use a number that is at least 0: --beta 1")
    if config.rule == "threshold":
        if config.beta is not None:
            raise LabeldepError(
                "--beta weighs the critic, which --decision threshold does not use", "Add --decision rerank."
            )
        return ByThreshold(DecisionRule.of(config, run.facts["thresholds"]))
    if config.threshold is not None or config.top_k is not None or config.non_empty:
        raise LabeldepError(
            f"--decision {config.rule} takes no --threshold, --top-k or --non-empty",
            "It decides on the whole set: leave them out.",
        )
    if run.facts["critic"] is None:
        return _without_critic(config, run)
    set_by_user = config.beta is not None
    beta = config.beta if config.beta is not None else run.facts.get("beta")
    if beta is None:
        raise CheckpointError(
            f"{run.folder} is unfinished: its --beta is not chosen yet", "Finish its training, or set one: --beta 1"
        )
    source = "given" if set_by_user else "tuned on val"
    return ByCritic(run.critic(device), float(beta), source, config.rule, prior=float(run.facts.get("prior", 1.0)))


def _without_critic(config: DecisionConfig, run: Run) -> Decision:
    if not run.joint:
        raise CheckpointError(
            f"{run.folder} has no critic, which --decision {config.rule} needs",
            "Train one: labeldep adversarial --critic kernel\n"
            "Or train a head that knows whole sets: labeldep pretrain --head powerset (or chain)",
        )
    if config.beta is not None:
        raise LabeldepError(
            f"--beta weighs the critic, which {run.folder} does not have",
            f"Leave it out: the head itself decides. It is --head {run.head_kind}.",
        )
    return ByOwnPosterior(config.rule)
