"""A run as the report shows it: its sets under each decision, and the decision that the rest of the page uses."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DecisionConfig
from labeldep_cli.evaluation.decisions import Decided
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.experiments.scores import Evaluation, SplitPredictions
from labeldep_cli.reports import tables
from labeldep_cli.runs.run import Run

Judgement = Literal["right", "wrong", "missed", "unknown"]

_HALF, _TUNED, _SETS = DecisionConfig(), DecisionConfig(threshold="tuned"), DecisionConfig("rerank")


@dataclass(frozen=True)
class RunReport:
    """A run and its label sets.

    Attributes:
        number: its position among the runs of the page, from 0.
        predictions: the outputs of its generator.
        evaluations: under p > 0.5, under the threshold tuned on val and, if it has a critic or a joint head, of the
            sets that these choose.
        own: index of the run's own evaluation: that of the sets of a critic, if only the critic was trained, or of a
            joint head; else the tuned threshold's. The page uses these sets, so that no difference comes from a
            threshold left at 0.5.
        decided: the sets of that evaluation, with their confidences.
    """

    number: int
    predictions: SplitPredictions
    evaluations: tuple[Evaluation, ...]
    own: int
    decided: Decided

    @property
    def sets(self) -> NDArray[np.bool_]:
        """The run's own sets, bool [N, L]."""
        return self.decided.sets

    @property
    def letter(self) -> str:
        """Its short name on the page."""
        return string.ascii_uppercase[self.number]

    @property
    def run(self) -> Run:
        """The run."""
        return self.predictions.run

    @property
    def kind(self) -> str:
        """How it was trained, in words."""
        return kind_of(self.run)

    @property
    def rule(self) -> str:
        """The run's own decision in words."""
        return tables.decision(self.evaluations[self.own].rule.to_json())

    @property
    def labels(self) -> NDArray[np.int8]:
        """The truth [N, L], the same for all runs of a page."""
        return self.predictions.inputs.labels.numpy()

    @cached_property
    def p(self) -> NDArray[np.float64]:
        """Probabilities [N, L]."""
        return probabilities(self.predictions.logits)

    @cached_property
    def wrong(self) -> NDArray[np.int64]:
        """How many labels of each image its set has wrong, [N]; unknown labels are not counted."""
        return np.asarray(((self.sets != (self.labels > 0)) & (self.labels >= 0)).sum(axis=1))

    def judgements(self, row: int) -> list[tuple[Judgement, str]]:
        """The judgement of each label in an image's predicted set, and of the labels that it misses, in label order."""
        chosen, truth = self.sets[row], self.labels[row]
        judgement_of: dict[tuple[bool, int], Judgement] = {
            (True, 1): "right",
            (True, 0): "wrong",
            (True, -1): "unknown",
            (False, 1): "missed",
        }
        named = np.flatnonzero(chosen | (truth > 0))
        return [(judgement_of[bool(chosen[k]), int(truth[k])], self.run.space.names[k]) for k in named]

    def scores(self) -> list[dict[str, Any]]:
        """The records of `labeldep eval --json`, one per decision."""
        return [evaluation.to_json() for evaluation in self.evaluations]


def run_reports(predictions: Sequence[SplitPredictions]) -> list[RunReport]:
    """Score runs under every decision that they support."""
    return [_run_report(number, of_run) for number, of_run in enumerate(predictions)]


def _run_report(number: int, predictions: SplitPredictions) -> RunReport:
    run = predictions.run
    has_critic = run.facts["critic"] is not None
    # An unfinished run has not chosen its critic's weight yet.
    by_set = run.facts.get("beta") is not None if has_critic else run.joint
    decisions = (_HALF, _TUNED, _SETS) if by_set else (_HALF, _TUNED)
    evaluated = [predictions.evaluated(decision) for decision in decisions]
    own = len(decisions) - 1 if by_set and (freezes(run) or run.joint) else 1
    return RunReport(number, predictions, tuple(evaluation for evaluation, _ in evaluated), own, evaluated[own][1])


def freezes(run: Run) -> bool:
    """Whether only the critic was trained, with G fixed."""
    return bool(run.config["settings"].get("freeze_generator", False))


def is_control(run: Run) -> bool:
    """Whether the run is a control: the adversarial stage without a critic."""
    return bool(run.config["settings"].get("critic") == "none")


def kind_of(run: Run) -> str:
    """How a run was trained, in words."""
    if is_control(run):
        return "control"
    critic = run.config["settings"].get("critic")
    if critic is None:
        return "baseline"
    return f"{critic} critic with a fixed G" if freezes(run) else f"adversarial, {critic}"
