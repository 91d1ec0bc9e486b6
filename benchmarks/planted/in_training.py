"""When does a critic IN TRAINING beat its control? Settings are tried on the Ising model, whose posterior is known.

Every setting starts from the same pretrained generator and makes as many updates as its control, with the package's own
steps. The LAST state is scored: a critic in training pulls G towards coherent sets and costs a little mAP. So the
checkpoint with the best val mAP, which a run keeps, is mostly one from before the critic had any effect.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import nn

from benchmarks.planted.cases import Case, Sizes, draw
from benchmarks.planted.rows import CONTROL, most_probable
from benchmarks.planted.score import COLUMNS, Row, beside, score, summary
from benchmarks.show import Table, show, told
from labeldep_cli.config import AdversarialConfig, PretrainConfig
from labeldep_cli.datasets import ready_features
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.evaluation.evaluate import collect_logits, probabilities
from labeldep_cli.inputs.batches import Batch
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.progress import Reporter, SilentReporter
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.steps import LogisticStep, Step

HIDDEN = 512
PRETRAIN_STEPS, STEPS = 2500, 1000
SIZES = Sizes(train=20_000, val=1_000, test=10_000)
"""Many test rows: they cost nothing here, and the differences looked for are below one point."""

_COMMON = AdversarialConfig(
    hidden=HIDDEN,
    lr=1e-3,
    batch_size=512,
    critic_layers=2,
    critic_width=128,
    critic_projection=64,
    critic_lr=1e-3,
    critic_steps=2,
    noise_samples=4,
    label_reduction="sum",
)
_RATIO = replace(_COMMON, critic="nce", alpha=0.3)
_DISTANCE = replace(_COMMON, critic="wgan-gp", alpha=0.3)

SETTINGS: Mapping[str, AdversarialConfig] = {
    CONTROL: replace(_COMMON, critic="none"),
    "nce, probabilities, alpha 0.3": replace(_RATIO, sampling="none"),
    "nce, probabilities, alpha 1": replace(_RATIO, sampling="none", alpha=1.0),
    "nce, straight-through, alpha 0.3": replace(_RATIO, sampling="straight-through"),
    "nce, gumbel, alpha 0.3": replace(_RATIO, sampling="gumbel"),
    "wgan-gp, gumbel, alpha 10, averaged over labels": replace(_DISTANCE, alpha=10.0, label_reduction="mean"),
    "wgan-gp, gumbel, alpha 10, summed over labels": replace(_DISTANCE, alpha=10.0),
    "wgan-gp, probabilities, alpha 0.3": replace(_DISTANCE, sampling="none"),
}
"""The names consist of the critic, what it gets from G, and alpha."""


def command(
    work: Annotated[Path, typer.Option(help="Folder of the drawn data sets.")] = Path("runs/planted-in-training"),
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the data, each with a training of its own.")] = 3,
    only: Annotated[str, typer.Option(help="Settings whose name begins so; the control is always trained.")] = "",
    steps: Annotated[int, typer.Option(min=1, help="Generator updates.")] = STEPS,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Critics in training on an Ising model, each compared with its control; simulated evidence."""
    from labeldep_cli.cli.show import Terminal

    found = run(work, seeds, only, steps, SIZES, Terminal())
    show(found, (_gains(found), _differences(found)), json)


def run(
    work: Path,
    seeds: int = 3,
    only: str = "",
    steps: int = STEPS,
    sizes: Sizes = SIZES,
    reporter: Reporter | None = None,
) -> dict[str, Any]:
    """Train every setting for every seed; arguments as the flags of `command`.

    Returns:
        `rows[]` (scores.summary; a row's fraction is of the true posterior's gain over the control) and
        `beside_control[]` (scores.beside).
    """
    chosen = {name: one for name, one in SETTINGS.items() if name == CONTROL or name.startswith(only)}
    per_seed = [_rows(chosen, work, seed, steps, sizes, reporter or SilentReporter()) for seed in range(seeds)]
    return {
        "benchmark": "planted-in-training",
        "simulated": "an Ising model's label sets, simulated evidence",
        "sizes": vars(sizes),
        "steps": steps,
        "seeds": seeds,
        "rows": summary(per_seed, baseline=0, best=len(per_seed[0]) - 1),
        "beside_control": beside(per_seed, CONTROL, list(chosen)[1:]),
    }


def _rows(
    settings: Mapping[str, AdversarialConfig], work: Path, seed: int, steps: int, sizes: Sizes, reporter: Reporter
) -> list[Row]:
    case = draw("ising", Path(), sizes, seed, work)
    train, test = _inputs(case, slice(0, sizes.train)), _inputs(case, slice(sizes.train + sizes.val, None))
    target = float(case.tuning[1].sum(axis=1).mean())
    head = seeded_head("linear", train.feature_dim, len(train.space), HIDDEN, seed)
    start = Generator(nn.Identity(), head)
    _train(LogisticStep(start, train, PretrainConfig(hidden=HIDDEN, seed=seed).resolved()), train, PRETRAIN_STEPS)
    rows: list[Row] = []
    for name, setting in settings.items():
        reporter.note(f"seed {seed}: {name}")
        generator = copy.deepcopy(start)
        _train(_step(generator, train, replace(setting, seed=seed).resolved()), train, steps)
        logits = collect_logits(generator, test)
        rows += _two(name, probabilities(logits), logits, case, target, seed)
    marginals = case.truth.marginals
    rows += _two("true marginals", marginals, marginals.astype(np.float32), case, target, seed)
    return [
        *rows,
        score("true posterior", "best set", case.truth.best, marginals.astype(np.float32), case.labels, seed),
    ]


def _two(
    name: str, p: NDArray[np.float64], ranked: NDArray[np.float32], case: Case, target: float, seed: int
) -> list[Row]:
    """Score probabilities at 0.5 and at equal labels an image."""
    decided = {"p > 0.5": p > 0.5, "equal labels": most_probable(p, target)}
    return [score(name, rule, sets, ranked, case.labels, seed) for rule, sets in decided.items()]


def _inputs(case: Case, rows: slice) -> FeatureInputs:
    """Rows of the case's file; `cases.draw` writes train, val and test in this order."""
    ready = ready_features.read(case.file)
    x, y = ready.features[rows], ready.labels[rows]
    names = [str(row) for row in range(len(x))]
    return FeatureInputs(x[:, None, :], y, names, LabelSpace(ready.label_names), (), torch.device("cpu"))


def _step(generator: Generator, train: FeatureInputs, config: AdversarialConfig) -> Step[Sequence[Batch]]:
    if config.critic == "none":
        return LogisticStep(generator, train, config, weight=config.alpha)
    critic = seeded_critic(len(train.space), train.feature_dim, config.critic_shape, config.seed)
    return AdversarialStep(generator, critic, train, config)


def _train(step: Step[Sequence[Batch]], train: FeatureInputs, steps: int) -> None:
    batches = train.stream(step.requests(0))
    for number in range(steps):
        step(number, batches)


def _gains(found: Mapping[str, Any]) -> Table:
    return Table(
        f"Ising, {found['seeds']} seeds, {found['steps']} updates, last state; simulated evidence",
        ("setting", "decision", "CF1", "OF1", "mAP", "exact", "labels", "% of the true gain over the control"),
        [
            (
                row["system"],
                row["decision"],
                *(f"{row[key]:.2f}" for key in ("CF1", "OF1", "mAP", "exact_match", "labels_per_image")),
                "-" if row["fraction"] is None else told(row["fraction"], scale=100, digits=0),
            )
            for row in found["rows"]
        ],
        words=2,
    )


def _differences(found: Mapping[str, Any]) -> Table:
    return Table(
        "Less the control, trained as long without a critic",
        ("setting", "decision", *COLUMNS, "mAP"),
        [
            (row["system"], row["decision"], *(told(row[metric], digits=2) for metric in COLUMNS), f"{row['mAP']:+.2f}")
            for row in found["beside_control"]
        ],
        words=2,
    )
