"""A run's predictions for a split: logits computed once, then scores under any decision rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.evaluation.cross_tuning import decide_cross_tuned, is_tuned
from labeldep_cli.evaluation.decisions import Decided, Decision, Outputs
from labeldep_cli.evaluation.evaluate import collect_features, collect_logits, collect_posterior, evaluate
from labeldep_cli.evaluation.metrics import ApVariant, Scores
from labeldep_cli.evaluation.posterior import SetPosterior
from labeldep_cli.evaluation.seen import BySeen, score_by_seen, seen_in_train
from labeldep_cli.experiments.confidence import confidence_scores
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.of_run import open_run_data
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.run_data import RunData
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.provenance import protocol_of
from labeldep_cli.runs.run import Run


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run on a split, with their protocol.

    Attributes:
        folder: folder of the run.
        dataset, split: their names.
        rule: the decision rule that made the predicted sets.
        scores: those of docs/protocol.md, 0..100.
        skipped: rows of the split without an image that can be read.
        provenance: everything else that the numbers depend on.
        images_read: whether images were read; False if a finished cache was enough.
        confidence: what the sets' probabilities are worth, as `confidence.confidence_scores` returns it.
        by_seen: the scores of images whose true set occurs in train, and of the others; None if train's sets are
            unknown.
    """

    folder: Path
    dataset: str
    split: str
    rule: Decision
    scores: Scores
    skipped: tuple[Skipped, ...]
    provenance: dict[str, Any]
    images_read: bool
    confidence: dict[str, Any]
    by_seen: BySeen | None = None

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `eval --json` prints."""
        return {
            "run": str(self.folder),
            "dataset": self.dataset,
            "split": self.split,
            "decision": self.rule.to_json(),
            **self.scores.to_json(),
            **({} if self.by_seen is None else self.by_seen.to_json()),
            "confidence": self.confidence,
            "skipped": [skip.to_json() for skip in self.skipped],
            "provenance": self.provenance,
        }


def evaluate_with(
    run: Run,
    run_workspace: RunWorkspace,
    machine: Machine,
    decisions: tuple[DecisionConfig, ...],
    split: str,
    weights: str | None,
    reporter: Reporter,
) -> tuple[Evaluation, ...]:
    """Score a run under several decision rules with one pass over the split; arguments as in `evaluate_run`."""
    predictions = predict_split(run, run_workspace, machine, split, weights, reporter)
    return tuple(predictions.evaluated(decision)[0] for decision in decisions)


@dataclass(frozen=True)
class SplitPredictions:
    """The logits of a run's generator for a split, before label sets are decided on.

    Attributes:
        run: the run.
        project: its data set and backbone.
        split: name of the split.
        inputs: the usable rows of the split.
        logits: those of the usable rows, float32 [N, L].
        data: how the data set relates to the one that the run was trained on.
    """

    run: Run
    project: Project
    split: str
    inputs: Inputs
    logits: NDArray[np.float32]
    data: RunData

    @cached_property
    def features(self) -> Tensor:
        """Z of the rows, the critic's input, float32 [N, F]; kept, because full mode needs a pass over the images."""
        return collect_features(self.inputs)

    @cached_property
    def seen(self) -> NDArray[np.bool_] | None:
        """Whether each row's true label set occurs among those that the run was trained on, bool [N].

        None if the run has no record of them.
        """
        train = self.data.sets_at_training
        return None if train is None else seen_in_train(self.inputs.labels.numpy(), train)

    def decided(self, decision: DecisionConfig) -> tuple[Decision, Decided]:
        """The requested decision rule, and the label sets that it makes."""
        rule = decision_of(decision, self.run, self.project.device)
        return rule, rule.decide(self.outputs)

    def judged(self, decision: DecisionConfig) -> NDArray[np.bool_]:
        """The label sets [N, L] by which a decision is compared with others on val.

        Tuned thresholds do not decide on the rows that they were tuned on: each tenth has those of the rest.
        """
        if is_tuned(decision):
            return decide_cross_tuned(self.logits, self.inputs.labels.numpy(), decision)
        return self.decided(decision)[1].sets

    @cached_property
    def outputs(self) -> Outputs:
        """What a decision may use. The most probable sets of a joint head take a second pass over the split, once."""

        @cache
        def own(count: int) -> SetPosterior:
            return collect_posterior(self.run.generator(self.project.device), self.inputs, count)

        return Outputs(self.logits, lambda: self.features, own if self.run.joint else None)

    def evaluated(self, decision: DecisionConfig) -> tuple[Evaluation, Decided]:
        """Scores under one decision rule, and the label sets that it makes."""
        rule, decided = self.decided(decision)
        scores = evaluate(self.logits, decided.sets, self.inputs, decision.ap)
        provenance = protocol_of(self.run, self.project.dataset.split(self.split), decision.ap)
        provenance["labels_changed"] = self.data.to_json()
        names = (self.run.folder, self.project.dataset.name, self.split)
        images_read = bool(self.project.images_read)
        by_seen = self._by_seen(decided, decision.ap)
        confidence = confidence_scores(self.run, decision, decided, self.independent, self.inputs.labels.numpy())
        evaluation = Evaluation(*names, rule, scores, self.inputs.skipped, provenance, images_read, confidence, by_seen)
        return evaluation, decided

    def _by_seen(self, decided: Decided, ap: ApVariant) -> BySeen | None:
        if self.seen is None:
            return None
        labels, names = self.inputs.labels.numpy(), self.inputs.space.names
        return score_by_seen(self.logits, decided.sets, labels, names, self.seen, ap)

    @cached_property
    def independent(self) -> Decided:
        """The sets p > 0.5, with products of independent probabilities: what a decision's confidence is compared with.

        These are the most probable sets of independent labels.
        """
        return self.decided(DecisionConfig())[1]


def predict_split(
    run: Run,
    run_workspace: RunWorkspace,
    machine: Machine,
    split: str,
    weights: str | None,
    reporter: Reporter,
    others: Sequence[Run] = (),
) -> SplitPredictions:
    """Pass a split through a run's generator once; arguments as in `evaluate_run`.

    Rows of val or test that the run or one of the `others` was trained on are left out.

    Raises:
        LabeldepError: the data set is missing, the weights have changed, or the run was trained on most of the rows.
    """
    project, data = open_run_data(run, run_workspace, weights, machine, reporter)
    return predict_opened(run, project, data, split, reporter, others)


def predict_opened(
    run: Run, project: Project, data: RunData, split: str, reporter: Reporter, others: Sequence[Run] = ()
) -> SplitPredictions:
    """Pass a split of a run's open data set through its generator; arguments and errors as in `predict_split`."""
    project, data = data.held_out(project, split, reporter, others)
    inputs = ensure_inputs(project, split, run.full)
    logits = collect_logits(run.generator(project.device), inputs)
    return SplitPredictions(run, project, split, inputs, logits, data)
