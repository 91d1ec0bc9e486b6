"""Every decision that a run can make, side by side: scores on a split, cost, and the best one for each purpose.

The purposes' best decisions are chosen on val. Chosen on the scored split, they would be a look at it. Thresholds are
tuned on val too, and would win there by their own tuning: `evaluation/cross_tuning.py` judges them on rows left out.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any, get_args

from labeldep_cli.config import DecisionConfig, DecisionKind, Machine, RunWorkspace
from labeldep_cli.errors import CheckpointError, DatasetError
from labeldep_cli.evaluation.decisions import Decision, Outputs
from labeldep_cli.evaluation.evaluate import collect_posterior, evaluate
from labeldep_cli.evaluation.metrics import ApVariant, Scores
from labeldep_cli.experiments.scores import Evaluation, SplitPredictions, predict_opened
from labeldep_cli.progress import DeduplicatingReporter, Reporter
from labeldep_cli.projects.of_run import open_run_data
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.run_data import RunData
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.run import Run

PURPOSES = {
    "OF1": "labels, one by one",
    "CF1": "labels, each label counting alike",
    "macro_f1": "the F1 of every label",
    "exact_match": "whole sets",
}
"""What one may want of label sets, by the score that says how well it is reached. A ranking (mAP) is wanted too, but no
decision changes it."""

TIMED = 3
"""Number of timed calls of a decision; the cost is their median."""

_KEPT = ("CP", "CR", "CF1", "OP", "OR", "OF1", "macro_f1", "exact_match", "labels_per_image", "seen", "unseen")


@dataclass(frozen=True)
class NamedDecision:
    """A decision with its name and the flags that select it.

    Attributes:
        name: a few words.
        flags: of `eval` and `predict`; empty for the default.
        config: the settings.
    """

    name: str
    flags: str
    config: DecisionConfig


@dataclass(frozen=True)
class DecisionRow:
    """The scores and the cost of one decision.

    Attributes:
        named: the decision.
        evaluation: its scores on the split.
        seconds: the time that it takes to decide on all rows of the split, without the networks' forward pass.
        val: its scores on val, with cross-tuned thresholds; None if there are no rows to choose on.
    """

    named: NamedDecision
    evaluation: Evaluation
    seconds: float
    val: Scores | None = None


@dataclass(frozen=True)
class Choice:
    """The best decision on val for one score.

    Attributes:
        name: the decision's name.
        val, score: the score on val and on the scored split, 0..100.
    """

    name: str
    val: float
    score: float

    def to_json(self) -> dict[str, Any]:
        """One entry of `chosen_on_val`."""
        return {"decision": self.name, "val": self.val, "score": self.score}


@dataclass(frozen=True)
class DecisionTable:
    """All decisions of a run on a split.

    Attributes:
        rows: one per decision, the first is p > 0.5.
        left_out: decisions that the run cannot make, with the reason.
        chosen: by score, those of PURPOSES: the decision with the best score on val, of equally good ones the first;
            None if there are no rows to choose on.
        n_val: number of val rows.
    """

    rows: tuple[DecisionRow, ...]
    left_out: Mapping[str, str]
    chosen: Mapping[str, Choice] | None
    n_val: int

    @property
    def first(self) -> Evaluation:
        """The evaluation under p > 0.5, for what no decision changes."""
        return self.rows[0].evaluation

    def cost(self, row: DecisionRow) -> dict[str, float]:
        """Microseconds an image, and the multiple of p > 0.5."""
        return {
            "microseconds_per_image": 1e6 * row.seconds / self.first.scores.n_images,
            "relative": row.seconds / self.rows[0].seconds,
        }

    def to_json(self) -> dict[str, Any]:
        """The object that `eval --decision all --json` prints."""
        record = self.first.to_json()
        whole = ("run", "dataset", "split", "n_images", "n_labels", "mAP", "true_labels_per_image", "skipped_labels")
        return {
            **{key: record[key] for key in whole},
            "decisions": [self._row(row) for row in self.rows],
            "left_out": dict(self.left_out),
            "chosen_on_val": None
            if self.chosen is None
            else {"n_images": self.n_val, **{score: choice.to_json() for score, choice in self.chosen.items()}},
            "skipped": record["skipped"],
            "provenance": record["provenance"],
        }

    def _row(self, row: DecisionRow) -> dict[str, Any]:
        record = row.evaluation.to_json()
        scores = {key: record[key] for key in _KEPT if key in record}
        names = {"name": row.named.name, "flags": row.named.flags, "decision": record["decision"]}
        val = None if row.val is None else {score: getattr(row.val, score) for score in PURPOSES}
        return {**names, **scores, "val": val, "cost": self.cost(row)}


def decision_table(
    run: Run,
    run_workspace: RunWorkspace,
    machine: Machine,
    ap: ApVariant,
    split: str,
    weights: str | None,
    reporter: Reporter,
) -> DecisionTable:
    """Score a run under every decision that it can make; arguments as in `evaluate_run`.

    Raises:
        LabeldepError: as in `evaluate_run`.
    """
    reporter = DeduplicatingReporter(reporter)  # both splits have the same notes
    project, data = open_run_data(run, run_workspace, weights, machine, reporter)
    scored = predict_opened(run, project, data, split, reporter)
    decisions, left_out = _decisions(scored, ap)
    rows = tuple(_timed(scored, named) for named in decisions)
    val = scored if split == "val" else _val(run, project, data, reporter)
    if val is None:
        return DecisionTable(rows, left_out, None, 0)
    rows = tuple(replace(row, val=evaluate(val.logits, val.judged(row.named.config), val.inputs, ap)) for row in rows)
    chosen = {score: _best(rows, score) for score in PURPOSES}
    return DecisionTable(rows, left_out, chosen, len(val.logits))


def _val(run: Run, project: Project, data: RunData, reporter: Reporter) -> SplitPredictions | None:
    """The run's outputs for val; None, with a note, if there is no val that the run was not trained on."""
    why = "all rows of this data set are scored: it has no val"  # each of its splits has all rows
    if not project.dataset.undivided:
        try:
            return predict_opened(run, project, data, "val", reporter)
        except DatasetError as error:
            why = error.what
    reporter.note(f"{why}; so no decision is named as the best one")
    return None


def _decisions(predictions: SplitPredictions, ap: ApVariant) -> tuple[list[NamedDecision], dict[str, str]]:
    """The decisions that a run can make, and those that it cannot make with the reason."""
    run = predictions.run
    k = max(round(float(run.facts["val"]["true_labels_per_image"])), 1)
    named = [
        NamedDecision("p > 0.5", "", DecisionConfig(ap=ap)),
        NamedDecision("p > 0.5, never empty", "--non-empty", DecisionConfig(non_empty=True, ap=ap)),
        NamedDecision("tuned", "--threshold tuned", DecisionConfig(threshold="tuned", ap=ap)),
        NamedDecision(
            "tuned, never empty",
            "--threshold tuned --non-empty",
            DecisionConfig(threshold="tuned", non_empty=True, ap=ap),
        ),
        NamedDecision(
            "tuned per label", "--threshold tuned-per-label", DecisionConfig(threshold="tuned-per-label", ap=ap)
        ),
        NamedDecision(f"top {k}", f"--top-k {k}", DecisionConfig(top_k=k, ap=ap)),
    ]
    left_out = {}
    for kind in get_args(DecisionKind):
        config = DecisionConfig(rule=kind, ap=ap)
        try:
            decision_of(config, run, predictions.project.device)
        except CheckpointError as error:
            left_out[kind] = error.what
        else:
            named += [] if kind == "threshold" else [NamedDecision(kind, f"--decision {kind}", config)]
    return named, left_out


def _timed(predictions: SplitPredictions, named: NamedDecision) -> DecisionRow:
    """Score a decision, and time it alone: its features are there, and it has run once before.

    In head mode a joint head searches for its sets anew each time. With --full its images would have to be read too.
    """
    evaluation, _ = predictions.evaluated(named.config)
    outputs, run = predictions.outputs, predictions.run
    if run.joint and not run.full:
        own = partial(collect_posterior, run.generator(predictions.project.device), predictions.inputs)
        outputs = replace(outputs, own=own)
    return DecisionRow(named, evaluation, median(_seconds(evaluation.rule, outputs) for _ in range(TIMED)))


def _seconds(rule: Decision, outputs: Outputs) -> float:
    start = time.perf_counter()
    rule.decide(outputs)
    return time.perf_counter() - start


def _best(rows: Sequence[DecisionRow], score: str) -> Choice:
    values = [float(getattr(row.val, score)) for row in rows]
    k = values.index(max(values))
    return Choice(rows[k].named.name, values[k], float(getattr(rows[k].evaluation.scores, score)))
