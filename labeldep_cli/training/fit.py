"""The one training loop, for both stages and both modes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from labeldep_cli.config import Selection
from labeldep_cli.errors import CheckpointError, TrainingError
from labeldep_cli.evaluation.evaluate import collect_logits, evaluate, probabilities, tuned_thresholds
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.files import write_json, write_text
from labeldep_cli.inputs import Inputs
from labeldep_cli.models.generator import Generator
from labeldep_cli.progress import Reporter
from labeldep_cli.training import checkpoint
from labeldep_cli.training.steps import Step

LAST = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
RESULT = "result.json"


@dataclass
class State:
    """Where a run stands; `last.safetensors` is its only truth.

    Attributes:
        step: generator updates made.
        history: one record an evaluation, the lines of metrics.jsonl.
        best: the best evaluation: its step, the value that chose it, scores on val, thresholds found on val. Empty
            before the first.
        stopped: `--patience` ended the run.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False


@dataclass(frozen=True)
class Schedule:
    """How long to train.

    Attributes:
        steps: generator updates in all.
        steps_per_epoch: ceil(N / batch size).
        patience: evaluations without a better one; 0 for no limit.
        min_interval: steps between evaluations at least.
        select: the score on val that chooses the best evaluation.
    """

    steps: int
    steps_per_epoch: int
    patience: int = 0
    min_interval: int = 1
    select: Selection = "mAP"

    @property
    def interval(self) -> int:
        """Steps between evaluations: whole epochs, of at least `min_interval` steps together."""
        return self.steps_per_epoch * -(-self.min_interval // self.steps_per_epoch)


def fit(
    step: Step,
    generator: Generator,
    train: Inputs,
    val: Inputs,
    schedule: Schedule,
    folder: Path,
    facts: Mapping[str, Any],
    reporter: Reporter,
) -> State:
    """Train until the schedule ends, evaluating and checkpointing on the way; go on from `last` where there is one.

    Args:
        step: what an update is.
        generator: G, which the step trains.
        train, val: their inputs; the best evaluation is chosen on val.
        schedule: when to stop.
        folder: of the run; its four files are written here.
        facts: what every checkpoint of this run says of itself (JSON values).
        reporter: shows progress.

    Returns:
        The closing state.

    Raises:
        TrainingError: a loss that is not finite; names the step and the last good checkpoint.
    """
    state = _resume(step, folder, reporter)
    generator.train()
    tally = _Tally()
    with (
        closing(train.stream(step.requests(state.step), step.order.pools(state.step))) as batches,
        reporter.bar("training", schedule.steps, "steps") as bar,
    ):
        bar.advance(state.step)
        if not state.history:
            _record(state, {}, _val_scores(generator, val, 0, folder)[0])
        while state.step < schedule.steps and not state.stopped:
            told = step(state.step, batches)
            tally.add(_finite(told, state.step, folder))
            state.step += 1
            bar.advance()
            if state.step % schedule.interval == 0 or state.step == schedule.steps:
                _evaluate(state, tally, step, generator, val, schedule, folder)
                _save(state, step, folder, facts)
    _finish(state, step, val, folder, facts, reporter)
    return state


def _finish(state: State, step: Step, val: Inputs, folder: Path, facts: Mapping[str, Any], reporter: Reporter) -> None:
    """Choose the weight of the best critic for test time, keep it in `best`, and write the result."""
    tensors, _ = checkpoint.load(folder / BEST)
    for key, network in step.networks().items():
        checkpoint.unpack(key, tensors, network, folder / BEST)
    if "critic" in step.networks():
        reporter.note("choosing the critic's weight for test time on val")
    beta = step.beta(val)
    if beta is not None:
        checkpoint.save(folder / BEST, tensors, {**facts, **state.best, "beta": beta})
    result = {"steps": state.step, "best_step": state.best["step"], "stopped_early": state.stopped}
    closing = {name: state.best[name] for name in ("val", "thresholds")}
    write_json(folder / RESULT, {**result, **closing, "beta": beta})


def _evaluate(
    state: State, tally: _Tally, step: Step, generator: Generator, val: Inputs, schedule: Schedule, folder: Path
) -> None:
    """Score G (or D, where it alone is trained) on val, add the record, and see whether it is the best yet."""
    scores, thresholds = _val_scores(generator, val, state.step, folder)
    quality = step.quality(val)
    told = tally.means() if quality is None else {**tally.means(), "critic_val": quality}
    _record(state, told, scores)
    value = scores[schedule.select] if quality is None else quality
    if not state.best or value > state.best["value"]:
        state.best = {"step": state.step, "value": value, "val": scores, "thresholds": thresholds}
    since = sum(record["step"] > state.best["step"] for record in state.history)
    state.stopped = bool(schedule.patience) and since >= schedule.patience


def _record(state: State, losses: Mapping[str, float], scores: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in scores.items() if name != "per_label"}
    state.history.append({"step": state.step, **losses, "val": kept})


def _val_scores(generator: Generator, val: Inputs, step: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    logits = collect_logits(generator, val)
    if not np.isfinite(logits).all():
        raise _diverged(f"the logits on val are not finite after step {step}", folder)
    rule = DecisionRule()
    scores = {"decision": rule.to_json(), **evaluate(logits, rule.decide(probabilities(logits)), val).to_json()}
    return scores, tuned_thresholds(logits, val)


class _Tally:
    """Means of the losses since the last evaluation."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, losses: Mapping[str, float]) -> None:
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1

    def means(self) -> dict[str, float]:
        means = {name: total / self._count for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return means


def _finite(told: Mapping[str, Tensor], step: int, folder: Path) -> dict[str, float]:
    """The losses as numbers; one transfer from the device."""
    values = dict(zip(told, torch.stack([value.float() for value in told.values()]).tolist(), strict=True))
    broken = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
    if broken:
        raise _diverged(f"the loss is not finite at step {step + 1} ({', '.join(broken)})", folder)
    return values


def _diverged(what: str, folder: Path) -> TrainingError:
    kept = f"the last good checkpoint is {folder / LAST}" if (folder / LAST).exists() else "nothing was saved yet"
    return TrainingError(
        f"{what}; {kept}",
        "Lower --lr (and --critic-lr), or look for extreme features; then train anew: --fresh, or --out FOLDER.",
    )


def _save(state: State, step: Step, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `last`, then what follows from it: `best` after `last`, so that `last` can always rebuild it."""
    networks = {
        name: value for key, net in step.networks().items() for name, value in checkpoint.pack(key, net).items()
    }
    optimizers = {
        name: value
        for key, opt in step.optimizers().items()
        for name, value in checkpoint.pack_optimizer(key, opt).items()
    }
    progress = {"step": state.step, "history": state.history, "best": state.best, "stopped": state.stopped}
    checkpoint.save(folder / LAST, networks | optimizers, {**facts, **progress})
    if state.best["step"] == state.step:
        checkpoint.save(folder / BEST, networks, {**facts, **state.best})
    _write_metrics(state, folder)


def _write_metrics(state: State, folder: Path) -> None:
    write_text(folder / METRICS, "".join(json.dumps(record) + "\n" for record in state.history))


def _resume(step: Step, folder: Path, reporter: Reporter) -> State:
    """Load `last` into the networks and cut everything else to fit it.

    Raises:
        CheckpointError: `last` is broken, or `best` is and cannot be rebuilt.
    """
    checkpoint.sweep(folder)
    if not (folder / LAST).exists():
        for leftover in (BEST, METRICS, RESULT):
            (folder / leftover).unlink(missing_ok=True)
        return State()
    tensors, facts = checkpoint.load(folder / LAST, ("step", "history", "best", "stopped"))
    for key, network in step.networks().items():
        checkpoint.unpack(key, tensors, network, folder / LAST)
    for key, optimizer in step.optimizers().items():
        checkpoint.unpack_optimizer(key, tensors, optimizer)
    state = State(facts["step"], facts["history"], facts["best"], facts["stopped"])
    reporter.note(f"going on from step {state.step} of {folder}")
    if checkpoint.read_facts(folder / BEST).get("step") != state.best["step"]:
        # A kill between `last` and `best` leaves `last` as the best: `best` is written before the next step.
        if state.best["step"] != state.step:
            raise CheckpointError(
                f"{folder / BEST} is missing or broken, and {LAST} (step {state.step}) is past it "
                f"(step {state.best['step']})",
                "Put it back, or train anew: the same command with --fresh.",
            )
        own = {key: value for key, value in facts.items() if key not in ("step", "history", "best", "stopped")}
        networks = {name: value for name, value in tensors.items() if name.partition(".")[0] in step.networks()}
        checkpoint.save(folder / BEST, networks, {**own, **state.best})
    _write_metrics(state, folder)
    return state
