"""labeldep's own systems, trained by its pipelines with default flags. A further system is a row of SYSTEMS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.rivals.answers import Answer
from benchmarks.rivals.rows import MACHINE
from labeldep_cli.config import AdversarialConfig, DecisionConfig, PretrainConfig, RunWorkspace, Source, Workspace
from labeldep_cli.experiments.scores import SplitPredictions, predict_split
from labeldep_cli.experiments.train import adversarial, pretrain
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run

BASELINE = "pretrain"

P_HALF = "p > 0.5"


@dataclass(frozen=True)
class System:
    """A run and its decisions.

    Attributes:
        name: of the run's folder; BASELINE is the run that critics start from.
        config: its flags; whatever they leave alone is the default.
        decisions: the decisions that it is scored under, by name.
    """

    name: str
    config: PretrainConfig | AdversarialConfig
    decisions: tuple[tuple[str, DecisionConfig], ...]


RERANK = (("rerank", DecisionConfig(rule="rerank")),)

SYSTEMS = (
    System(
        BASELINE,
        PretrainConfig(),
        (
            (P_HALF, DecisionConfig()),
            ("p > 0.5, never empty", DecisionConfig(non_empty=True)),
            ("tuned", DecisionConfig(threshold="tuned")),
            ("tuned, never empty", DecisionConfig(threshold="tuned", non_empty=True)),
        ),
    ),
    System("critic nce", AdversarialConfig(critic="nce", freeze_generator=True), RERANK),
    System("critic kernel", AdversarialConfig(critic="kernel"), RERANK),
    System("head powerset", PretrainConfig(head="powerset"), RERANK),
    System("head chain", PretrainConfig(head="chain"), RERANK),
)


@dataclass(frozen=True)
class OfSplit:
    """One decision of one run.

    Attributes:
        system, decision: their names.
        val, test: the label sets that it decides on, with their confidence.
    """

    system: str
    decision: str
    val: Answer
    test: Answer


def train(source: Source, workspace: Workspace, folder: Path, seed: int, quick: bool, reporter: Reporter) -> None:
    """Train every system into FOLDER/NAME; a finished run there is kept."""
    for system in SYSTEMS:
        config = replace(system.config, seed=seed, steps=4 if quick else None)
        job = Job(_folder(folder, system.name))
        if isinstance(config, PretrainConfig):
            pretrain(workspace, source, MACHINE, config, job, reporter)
        else:
            adversarial(workspace, source, MACHINE, config, str(_folder(folder, BASELINE)), job, reporter)


def decide(folder: Path, reporter: Reporter) -> Iterator[OfSplit]:
    """The answers of every finished system for val and test."""
    for system in SYSTEMS:
        val, test = (_predictions(_folder(folder, system.name), split, reporter) for split in ("val", "test"))
        for name, decision in system.decisions:
            yield OfSplit(system.name, name, _answer(val, decision), _answer(test, decision))


def _folder(folder: Path, name: str) -> Path:
    return folder / name.replace(" ", "-")


def _predictions(folder: Path, split: str, reporter: Reporter) -> SplitPredictions:
    run = open_run(str(folder), folder.parent)
    return predict_split(run, RunWorkspace(folder.parent), MACHINE, split, None, reporter)


def _answer(predictions: SplitPredictions, decision: DecisionConfig) -> Answer:
    decided = predictions.decided(decision)[1]
    return Answer(decided.sets, decided.confidence)
