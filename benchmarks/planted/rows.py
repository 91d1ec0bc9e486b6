"""The runs that the benchmark trains with the package's pipelines, and the decisions of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.cases import Case
from labeldep_cli.config import (
    AdversarialConfig,
    DecisionConfig,
    Machine,
    PretrainConfig,
    RunWorkspace,
    Source,
    Workspace,
)
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation.decisions import outputs_of
from labeldep_cli.evaluation.evaluate import collect_logits, probabilities
from labeldep_cli.experiments.train import adversarial, pretrain
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.of_run import project_of_run
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.find import open_run

MACHINE = Machine(device="cpu", workers=0)

BASELINE = "baseline"
CONTROL = "control"

Rule = Literal["p > 0.5", "tuned", "tuned, never empty", "equal labels", "rerank"]

_DECISIONS: Mapping[Rule, DecisionConfig] = {
    "p > 0.5": DecisionConfig(),
    "tuned": DecisionConfig(threshold="tuned"),
    "tuned, never empty": DecisionConfig(threshold="tuned", non_empty=True),
    "rerank": DecisionConfig(rule="rerank"),
}

IN_TRAINING = ("wgan-gp", "no-negatives", "unconditional", "no-gumbel")
"""Systems whose generator was trained with a critic: they are compared with the control."""

TRAINED: tuple[Rule, ...] = ("p > 0.5", "tuned", "equal labels")
"""Decisions under which a further trained generator is compared with its control, as in `labeldep compare`."""


@dataclass(frozen=True)
class System:
    """A run and its decisions.

    Attributes:
        name: name of the run.
        config: how it is trained from the baseline; None for the baseline itself.
        rules: decisions that it is scored under.
    """

    name: str
    config: AdversarialConfig | None
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Decided:
    """A run's output on the test rows.

    Attributes:
        logits: float32 [N, L].
        sets: bool [N, L] by rule.
        beta: the critic's weight chosen on val; None without a critic.
    """

    logits: NDArray[np.float32]
    sets: Mapping[Rule, NDArray[np.bool_]]
    beta: float | None


@dataclass(frozen=True)
class Scale:
    """How long things are trained, and how large the critics are.

    Attributes:
        pretrain: epochs of the baseline.
        hidden: width of the hidden layer of every head: a linear one could learn no coherent sets at all.
        joint: generator updates of the control and of every critic in training; None for the command's own default.
        frozen: updates of the density-ratio critic against a frozen generator.
        layers, width: of every critic; its projections are half as wide, as in the paper. None for the command's own
            default in training (the paper's 8 layers of 512), and for 2 layers of 256 against a frozen generator.
    """

    pretrain: int
    hidden: int
    joint: int | None
    frozen: int
    layers: int | None = None
    width: int | None = None


FROZEN_LAYERS, FROZEN_WIDTH = 2, 256
"""Two cores train a critic of this size in minutes."""

FROZEN_CRITIC_LR = 1e-3
"""Against a fixed generator the critic may learn fast: at the paper's 1e-4 it takes ten times as many updates."""


def systems(scale: Scale, only: Sequence[str] = ()) -> tuple[System, ...]:
    """The baseline and the runs called `only`, or all runs; critics keep all defaults that the scale leaves alone.

    Raises:
        LabeldepError: there is no such run.
    """
    every = _systems(scale)
    unknown = set(only) - {system.name for system in every}
    if unknown:
        raise LabeldepError(
            f"there is no system {sorted(unknown)[0]!r}", f"Name some of: {', '.join(system.name for system in every)}"
        )
    return tuple(system for system in every if not only or system.name in (BASELINE, *only))


def _systems(scale: Scale) -> tuple[System, ...]:
    paper = _sized(AdversarialConfig(steps=scale.joint), scale.layers, scale.width)
    frozen = AdversarialConfig(steps=scale.frozen, critic_steps=1, critic_lr=FROZEN_CRITIC_LR, freeze_generator=True)
    frozen = _sized(frozen, scale.layers or FROZEN_LAYERS, scale.width or FROZEN_WIDTH)
    return (
        System(BASELINE, None, ("p > 0.5", "tuned", "tuned, never empty", "equal labels")),
        System(CONTROL, replace(paper, critic="none"), TRAINED),
        System("wgan-gp", paper, TRAINED),
        System("no-negatives", replace(paper, negatives=False), TRAINED),
        System("unconditional", replace(paper, conditional=False), TRAINED),
        System("no-gumbel", replace(paper, sampling="none"), TRAINED),
        # A third as many updates: each costs several of the density ratio's, for its gradient penalty.
        System("wgan-gp-frozen", replace(frozen, steps=-(-scale.frozen // 3)), ("rerank",)),
        System("nce-frozen", replace(frozen, critic="nce"), ("rerank",)),
        System("kernel", AdversarialConfig(critic="kernel"), ("rerank",)),
    )


def _sized(config: AdversarialConfig, layers: int | None, width: int | None) -> AdversarialConfig:
    """The same settings with a critic of another size; None leaves it."""
    if width is not None:
        config = replace(config, critic_width=width, critic_projection=width // 2)
    return config if layers is None else replace(config, critic_layers=layers)


def train(system: System, case: Case, folder: Path, scale: Scale, seed: int, reporter: Reporter) -> None:
    """Train a system into FOLDER/NAME, from FOLDER/baseline; a finished run there is kept."""
    workspace, source, job = Workspace(folder, folder), Source(str(case.file)), Job(folder / system.name)
    if system.config is None:
        config = PretrainConfig(epochs=scale.pretrain, hidden=scale.hidden, seed=seed)
        pretrain(workspace, source, MACHINE, config, job, reporter)
        return
    start = str(folder / BASELINE)
    adversarial(workspace, source, MACHINE, replace(system.config, seed=seed), start, job, reporter)


def decide(system: System, folder: Path, labels_per_image: float, reporter: Reporter) -> Decided:
    """Compute the test sets of a finished run, as `labeldep eval` would.

    Args:
        system: the run and its decisions.
        folder: the folder in which it was trained.
        labels_per_image: number of labels per image for "equal labels".
        reporter: takes notes.
    """
    run = open_run(str(folder / system.name), folder)
    project = project_of_run(run, RunWorkspace(folder), None, MACHINE, reporter)
    inputs = ensure_inputs(project, "test", full=False)
    generator = run.generator(project.device)
    outputs = outputs_of(generator, inputs, collect_logits(generator, inputs))
    sets: dict[Rule, NDArray[np.bool_]] = {}
    for rule in system.rules:
        if rule == "equal labels":
            sets[rule] = most_probable(probabilities(outputs.logits), labels_per_image)
        else:
            decision = decision_of(_DECISIONS[rule], run, project.device)
            sets[rule] = decision.decide(outputs).sets
    return Decided(outputs.logits, sets, run.facts.get("beta"))


def most_probable(p: NDArray[np.float64], labels_per_image: float) -> NDArray[np.bool_]:
    """The sets [N, L] of the threshold that gives this number of labels per image; it uses only predictions."""
    count = min(max(round(labels_per_image * len(p)), 1), p.size - 1)
    threshold: np.float64 = np.partition(p, p.size - count - 1, axis=None)[p.size - count - 1]
    return p > threshold
