"""`labeldep dependency`: how a run's label sets differ from real ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
from labeldep_cli.errors import DatasetError
from labeldep_cli.evaluation.dependency import Dependency, measure
from labeldep_cli.evaluation.evaluate import collect_features, collect_logits, probabilities
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.of_run import open_run_data
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.find import open_and_announce
from labeldep_cli.runs.provenance import protocol_of


@dataclass(frozen=True)
class DependencyReport:
    """The dependency of a run's sets on a split, with its protocol.

    Attributes:
        folder: of the run.
        dataset, split: their names.
        decision: the rule of the decided sets, as JSON.
        dependency: the measures.
        provenance: what they depend on.
    """

    folder: Path
    dataset: str
    split: str
    decision: dict[str, Any]
    dependency: Dependency
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """One object."""
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
    """Measure the label dependency in a run's sets.

    Args:
        run_workspace: where runs and their data lie.
        run_name: as `find_run` takes it; None for the newest run.
        machine: to compute on.
        decision: which labels make the decided sets.
        split: of the data set.
        seed: of the sampled sets and of the test.
        reporter: takes notes.

    Raises:
        LabeldepError: no such run; its data are gone; it was trained on rows of the split; no image of the split has
            all its labels known.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    project, data = open_run_data(run, run_workspace, None, machine, reporter)
    data.require_unseen(split, reporter)
    inputs = ensure_inputs(project, split, run.full)
    labels = inputs.labels.numpy()
    if not (labels >= 0).all(axis=1).any():
        raise DatasetError(
            f"no image of {split} has all its labels known", "Dependency needs whole label sets: annotate some fully."
        )
    logits = collect_logits(run.generator(project.device), inputs)
    rule = decision_of(decision, run, project.device)
    decided = rule.decide(logits, lambda: collect_features(inputs))
    found = measure(labels, decided, probabilities(logits), data.training_labels, run.space.names, seed)
    provenance = protocol_of(run, project.dataset.split(split), "step")
    provenance["labels_changed"] = data.to_json()
    return DependencyReport(run.folder, project.dataset.name, split, rule.to_json(), found, provenance)
