"""The decision rule that a user requests, with the values that a run has stored for it.

A run stores a temperature for each kind of decision, chosen on val: one for labels that are independent ("threshold"),
one for the posterior over candidate sets that the critic weights ("rerank").
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch

from labeldep_cli.config import TUNED, DecisionConfig, DecisionKind
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.decisions import ByCritic, ByOwnPosterior, ByThreshold, Decision
from labeldep_cli.evaluation.thresholds import DEFAULT_THRESHOLD, DecisionRule
from labeldep_cli.models.kernel_critic import KernelCritic
from labeldep_cli.runs.run import Run

Calibrated = Literal["threshold", "rerank"]
"""The kinds of decisions that have a temperature of their own."""


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
        return ByThreshold(DecisionRule.of(config, run.facts["thresholds"]), temperature_of(config, run))
    if config.threshold is not None or config.top_k is not None or config.non_empty:
        raise LabeldepError(
            f"--decision {config.rule} takes no --threshold, --top-k or --non-empty",
            "It decides on the whole set: leave them out.",
        )
    if run.facts.get("critic") is None:
        return _without_critic(config, run)
    set_by_user = config.beta is not None
    beta = config.beta if config.beta is not None else run.facts.get("beta")
    if beta is None:
        raise CheckpointError(
            f"{run.folder} is unfinished: its --beta is not chosen yet", "Finish its training, or set one: --beta 1"
        )
    if beta == 0 and run.facts["critic"].get("kind") == KernelCritic.KIND:
        raise LabeldepError(
            f"--beta 0 leaves {run.folder} nothing to decide by: a kernel critic is p(y|x) itself",
            "Decide without it: --decision threshold",
        )
    source = "given" if set_by_user else "tuned on val"
    prior = float(run.facts.get("prior", 1.0))
    return ByCritic(run.critic(device), float(beta), source, config.rule, temperature_of(config, run), prior)


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
    return ByOwnPosterior(config.rule, temperature_of(config, run))


def calibrated_as(config: DecisionConfig) -> Calibrated:
    """The kind of decision whose temperature a rule uses: the set with the best expected F1 shares rerank's."""
    return "threshold" if config.rule == "threshold" else "rerank"


def confidence_facts(config: DecisionConfig, run: Run) -> dict[str, Any] | None:
    """What a run has stored about the confidence of this kind of decision; None for runs made before it was stored.

    Returns:
        temperature; why it stayed 1, or None; val: by rule (`rule_name`) what `calibration.kept_curve` keeps.
    """
    facts: dict[str, Any] | None = run.facts.get("confidence", {}).get(calibrated_as(config))
    return facts


def temperature_of(config: DecisionConfig, run: Run) -> float:
    """The temperature of the confidence of a decision, chosen on val; 1 if the run has none."""
    facts = confidence_facts(config, run)
    return 1.0 if facts is None else float(facts["temperature"])


def stored_rules(run: Run) -> list[DecisionConfig]:
    """The rules whose confidences on val a run stores; the first one of each kind decides on the temperature."""
    thresholds = [
        DecisionConfig(threshold=threshold, non_empty=non_empty)
        for non_empty in (False, True)
        for threshold in (None, *TUNED)
    ]
    by_set = run.joint if run.facts.get("critic") is None else run.facts.get("beta") is not None
    return [*thresholds, *([DecisionConfig("rerank"), DecisionConfig("expected-f1")] if by_set else [])]


def rule_name(config: DecisionConfig, run: Run) -> str | None:
    """The name under which a run stores the confidences of a rule on val; None for a rule that is not stored."""
    if config.rule != "threshold":
        return config.rule if config.beta in (None, run.facts.get("beta")) else None
    if config.top_k is not None:
        return None
    given = config.threshold or str(DEFAULT_THRESHOLD)
    if given not in TUNED:
        if float(given) != DEFAULT_THRESHOLD:
            return None
        given = f"p > {DEFAULT_THRESHOLD}"
    return f"{given}, non-empty" if config.non_empty else given
