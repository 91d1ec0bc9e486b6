"""A search over settings on val: its trials, what each scores, and how it differs from the defaults.

The search is coarse: one setting after the other, each with a few values, starting from the best trial so far. Test
rows are never read. N val rows, L labels, B resamples.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import (
    BACKBONE,
    DEFAULT_HEAD,
    READING,
    AdversarialConfig,
    CriticKind,
    DecisionConfig,
    HeadKind,
    PretrainConfig,
    TuneScore,
    flags_of,
)
from labeldep_cli.evaluation.bootstrap import Interval, interval, macro_f1, mean_average_precision, set_scores, weights
from labeldep_cli.experiments.scores import SplitPredictions
from labeldep_cli.projects.project import Project

DECISIONS = (
    DecisionConfig(),
    DecisionConfig(non_empty=True),
    DecisionConfig(threshold="tuned"),
    DecisionConfig("rerank"),
    DecisionConfig("expected-f1"),
)
"""The decisions of which the best counts."""

SURE_FROM = 200
"""Below this number of val rows, a note says how little a search can tell."""


@dataclass(frozen=True)
class Trial:
    """The settings that a search tries; the defaults are those of the commands with `--critic nce`.

    Attributes:
        head, hidden, weight_decay: of G.
        critic, critic_weight_decay: of the critic beside the fixed G; None for the critic's default.
    """

    head: HeadKind = DEFAULT_HEAD
    hidden: int = 0
    weight_decay: float = 0.0
    critic: CriticKind = "nce"
    critic_weight_decay: float | None = None

    @property
    def generator_name(self) -> str:
        """The name of G's run in the folder of the search."""
        hidden = f"-hidden{self.hidden}" if self.hidden else ""
        return f"{self.head}{hidden}{f'-decay{self.weight_decay:g}' if self.weight_decay else ''}"

    @property
    def name(self) -> str:
        """The name of the trial, and of its critic's run."""
        decay = "" if self.critic_weight_decay is None else f"-decay{self.critic_weight_decay:g}"
        return f"{self.generator_name}-{self.critic}{decay}"

    def pretraining(self, seed: int) -> PretrainConfig:
        """How G is trained."""
        return PretrainConfig(head=self.head, hidden=self.hidden, weight_decay=self.weight_decay, seed=seed)

    def criticism(self, seed: int) -> AdversarialConfig:
        """How the critic is trained."""
        decay = self.critic_weight_decay
        return AdversarialConfig(critic=self.critic, freeze_generator=True, critic_weight_decay=decay, seed=seed)


def _heads(best: Trial) -> list[Trial]:
    kinds = [kind for kind in get_args(HeadKind) if kind in ("powerset", "chain")]
    return [replace(best, hidden=512), *(replace(best, head=kind) for kind in kinds)]


def _critics(best: Trial) -> list[Trial]:
    return [
        *(replace(best, critic="kernel", critic_weight_decay=decay) for decay in (None, 0.2)),
        *(replace(best, critic_weight_decay=decay) for decay in (1.0, 10.0)),
    ]


ROUNDS: dict[str, Callable[[Trial], list[Trial]]] = {
    "the defaults": lambda best: [best],
    "the head": _heads,
    "weight decay of G": lambda best: [replace(best, weight_decay=decay) for decay in (1.0, 10.0)],
    "the critic": _critics,
}
"""The rounds of a search: from the best trial so far to the trials of the round."""


@dataclass(frozen=True)
class Measured:
    """A finished trial.

    Attributes:
        trial: its settings.
        folder: the run with the critic.
        decision: the decision with the best score on val.
        scores: on val, [1 + B]; entry 0 belongs to the original rows.
        seconds: how long its networks were trained, over all calls of the command that finished one.
    """

    trial: Trial
    folder: Path
    decision: DecisionConfig
    scores: NDArray[np.float64]
    seconds: float

    @property
    def score(self) -> Interval:
        """The score on val with its interval."""
        return interval(self.scores, np.zeros(len(self.scores)))

    def beside(self, default: Measured) -> Interval:
        """The difference to the defaults on the same rows."""
        return interval(self.scores, default.scores)

    def to_json(self, default: Measured) -> dict[str, Any]:
        """The record of the trial in `tune --json`."""
        score = self.score
        return {
            "trial": self.trial.name,
            "settings": asdict(self.trial),
            "run": str(self.folder),
            "decision": flags_of_decision(self.decision),
            "score": score.difference,
            "low": score.low,
            "high": score.high,
            "beside_defaults": self.beside(default).to_json(),
            "seconds": self.seconds,
        }


def measure(
    trial: Trial, predictions: SplitPredictions, score: TuneScore, seconds: float, resamples: int = 1000
) -> Measured:
    """Score a trial's run on val, under its best decision. Thresholds do not decide on the rows of their tuning.

    Args:
        trial: the settings.
        predictions: of the run, for val.
        score: the score that counts.
        seconds: of its training.
        resamples: B.
    """
    labels = predictions.inputs.labels.numpy()
    w = weights(len(labels), 0, resamples)
    folder = predictions.run.folder
    if score == "mAP":
        return Measured(trial, folder, DECISIONS[0], mean_average_precision(predictions.logits, labels, w), seconds)
    found = [_of_sets(predictions.judged(decision), labels, w, score) for decision in DECISIONS]
    best = max(range(len(DECISIONS)), key=lambda k: float(found[k][0]))
    return Measured(trial, folder, DECISIONS[best], found[best], seconds)


def _of_sets(
    sets: NDArray[np.bool_], labels: NDArray[np.int8], w: NDArray[np.int32], score: TuneScore
) -> NDArray[np.float64]:
    return macro_f1(sets, labels, w) if score == "macro_f1" else set_scores(sets, labels, w)[score]


def flags_of_decision(decision: DecisionConfig) -> str:
    """The flags of `eval` and `predict` for a decision."""
    if decision.rule != "threshold":
        return f"--decision {decision.rule}"
    return f"--threshold {decision.threshold or 0.5}{' --non-empty' if decision.non_empty else ''}"


def repeat(project: Project, best: Measured, seed: int) -> tuple[str, ...]:
    """The command lines that train the networks of the best trial outside the search."""
    source, runs, trial = project.source, project.workspace.runs_dir, best.trial
    words = ["--dataset", source.dataset]
    if project.row is not None:
        words += flags_of(source, BACKBONE)
    words += flags_of(source, READING) + flags_of(project.workspace, ("data_dir", "runs_dir", "features_dir"))
    start = str(runs / f"{project.name}-tuned-pretrain")
    of_seed = ["--seed", str(seed)] if seed else []
    own = _changes(trial, {"head": "--head", "hidden": "--hidden", "weight_decay": "--weight-decay"})
    lines = [shlex.join(["labeldep", "pretrain", *words, *own, *of_seed, "--out", start])]
    own = ["--critic", trial.critic, "--freeze-generator"]
    own += _changes(trial, {"critic_weight_decay": "--critic-weight-decay"})
    out = str(runs / f"{project.name}-tuned-critic")
    lines.append(shlex.join(["labeldep", "adversarial", *words, "--from", start, *own, *of_seed, "--out", out]))
    return tuple(lines)


def _changes(trial: Trial, names: dict[str, str]) -> list[str]:
    values = {
        flag: getattr(trial, name) for name, flag in names.items() if getattr(trial, name) != getattr(Trial, name)
    }
    return [
        word
        for flag, value in values.items()
        for word in (flag, f"{value:g}" if isinstance(value, float) else str(value))
    ]
