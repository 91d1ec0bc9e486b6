"""`labeldep eval`: score a run on a split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import DecisionConfig, Machine, Place
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.devices import enough_memory
from labeldep_cli.evaluation.evaluate import collect_features, collect_logits, evaluate
from labeldep_cli.evaluation.metrics import Scores
from labeldep_cli.pipelines.decisions import Decision, decision_of
from labeldep_cli.pipelines.project import Project
from labeldep_cli.pipelines.runs import Run, open_told, protocol_of
from labeldep_cli.progress import Reporter


@dataclass(frozen=True)
class Evaluation:
    """Scores of a run on a split, with their protocol.

    Attributes:
        folder: of the run.
        dataset, split: their names.
        rule: which labels made the predicted sets.
        scores: protocol.md's, 0..100.
        skipped: rows of the split without an image that can be read.
        provenance: all else that the numbers depend on.
        looked: the images themselves were read, rather than a finished cache.
    """

    folder: Path
    dataset: str
    split: str
    rule: Decision
    scores: Scores
    skipped: tuple[Skipped, ...]
    provenance: dict[str, Any]
    looked: bool

    def to_json(self) -> dict[str, Any]:
        """The keys of the contract."""
        return {
            "run": str(self.folder),
            "dataset": self.dataset,
            "split": self.split,
            "decision": self.rule.to_json(),
            **self.scores.to_json(),
            "skipped": [skip.to_json() for skip in self.skipped],
            "provenance": self.provenance,
        }


def evaluate_run(
    place: Place,
    run_name: str | None,
    machine: Machine,
    decision: DecisionConfig,
    split: str,
    weights: str | None,
    reporter: Reporter,
) -> Evaluation:
    """Score a run's best checkpoint.

    Args:
        place: where runs lie, and where their data lie now.
        run_name: a folder or a name; None for the newest run.
        machine: to compute on.
        decision: which labels make a predicted set.
        split: of the run's own data set.
        weights: a path in place of the recorded one.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: no such run; its data set or weights have changed.
    """
    run = open_told(run_name, place.runs_dir, reporter)
    return evaluate_with(run, place, machine, (decision,), split, weights, reporter)[0]


def evaluate_with(
    run: Run,
    place: Place,
    machine: Machine,
    decisions: tuple[DecisionConfig, ...],
    split: str,
    weights: str | None,
    reporter: Reporter,
) -> tuple[Evaluation, ...]:
    """Score a run under several decision rules with one pass over the split; arguments as in `evaluate_run`."""
    project = run.project(place, weights, machine, reporter)
    run.require_split(project, split)
    with enough_memory():
        return _evaluate(run, project, decisions, split)


def _evaluate(run: Run, project: Project, decisions: tuple[DecisionConfig, ...], split: str) -> tuple[Evaluation, ...]:
    inputs = project.inputs(split, run.full)
    logits = collect_logits(run.generator(project.device), inputs)
    found: list[Evaluation] = []
    for decision in decisions:
        rule = decision_of(decision, run, project.device)
        predicted = rule.decide(logits, lambda: collect_features(inputs))
        scores = evaluate(logits, predicted, inputs, decision.ap)
        provenance = protocol_of(run, project.dataset.split(split), decision.ap)
        names = (run.folder, project.dataset.name, split)
        found.append(Evaluation(*names, rule, scores, inputs.skipped, provenance, bool(project.looked)))
    return tuple(found)
