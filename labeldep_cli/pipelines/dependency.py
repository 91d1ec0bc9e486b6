"""`labeldep dependency`: how a run's label sets differ from real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
from labeldep_cli.errors import DatasetError
from labeldep_cli.evaluation.decisions import outputs_of
from labeldep_cli.evaluation.dependency import Dependency, measure
from labeldep_cli.evaluation.evaluate import collect_logits, probabilities
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.of_run import open_run_data
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.find import open_and_announce
from labeldep_cli.runs.provenance import protocol_of


@dataclass(frozen=True)
class DependencyReport:
    """Measures of label dependency in a run's label sets on a split.

    Attributes:
        folder: folder of the run.
        dataset, split: names of the data set and the split.
        decision: the rule that chose the label sets, as JSON.
        dependency: the measures.
        provenance: run, data and versions that the measures were computed with.
    """

    folder: Path
    dataset: str
    split: str
    decision: dict[str, Any]
    dependency: Dependency
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The object that `dependency --json` prints."""
        head = {"run": str(self.folder), "dataset": self.dataset, "split": self.split, "decision": self.decision}
        return {**head, **self.dependency.to_json(), "provenance": self.provenance}


def dependency(
    run_workspace: RunWorkspace,
    run_name: str | None,
    machine: Machine,
    decision: DecisionConfig,
    split: str,
    seed: int,
    reporter: Reporter,
) -> DependencyReport:
    """Measure the label dependency in a run's label sets.

    Args:
        run_workspace: the folder of the runs, and the data set to measure on.
        run_name: a folder, name, stage or part of a name, as for `find_run`; None for the newest run.
        machine: the device and the limits.
        decision: the rule that chooses label sets.
        split: name of the split to measure on.
        seed: seed of the sampled sets and of the test.
        reporter: takes notes.

    Raises:
        LabeldepError: there is no such run; its data set is missing; it was trained on most rows of the split; or no
            image of the split has all its labels known.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    project, data = open_run_data(run, run_workspace, None, machine, reporter)
    project, data = data.held_out(project, split, reporter)
    inputs = ensure_inputs(project, split, run.full)
    labels = inputs.labels.numpy()
    if not (labels >= 0).all(axis=1).any():
        raise DatasetError(
            f"no image of {split} has all its labels known",
            "Dependency needs complete label sets: annotate all labels of some images.",
        )
    generator = run.generator(project.device)
    logits = collect_logits(generator, inputs)
    rule = decision_of(decision, run, project.device)
    decided = rule.decide(outputs_of(generator, inputs, logits)).sets
    measures = measure(labels, decided, probabilities(logits), data.training_labels, run.space.names, seed)
    provenance = protocol_of(run, project.dataset.split(split), "step")
    provenance["labels_changed"] = data.to_json()
    return DependencyReport(run.folder, project.dataset.name, split, rule.to_json(), measures, provenance)
