"""The one training loop, for both stages and both modes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.utils import get_total_norm

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import Selection, TrainingConfig
from labeldep_cli.errors import CheckpointError
from labeldep_cli.evaluation.evaluate import collect_logits, evaluate, probabilities, tuned_thresholds
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.files import write_json, write_text
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.generator import Generator
from labeldep_cli.progress import Reporter, TrainingProgress
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training.steps import Step
from labeldep_cli.training.tally import Tally, diverged


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
        select: the evaluation to keep: the last one, or the one with the best such score on val.
    """

    steps: int
    steps_per_epoch: int
    patience: int = 0
    min_interval: int = 1
    select: Selection = TrainingConfig.SELECT

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
    world: World = ALONE,
) -> State:
    """Train until the schedule ends, evaluating and checkpointing on the way; go on from `last` where there is one.

    Args:
        step: what an update is.
        generator: G, which the step trains.
        train, val: their inputs; the best evaluation is chosen on val.
        schedule: when to stop.
        folder: of the run; its four files are written here.
        facts: what every checkpoint of this run says of itself (JSON values).
        reporter: looks on; no number depends on it.
        world: the processes that train together; the first one writes.

    Returns:
        The closing state.

    Raises:
        TrainingError: a loss that is not finite; names the step and the last good checkpoint.
    """
    with world.first_alone():
        state = _resume(step, folder, reporter, world)
    generator.train()
    training = TrainingProgress(folder.name, schedule.steps, tuple(state.history), state.best.get("step"))
    with (
        closing(train.stream(step.requests(state.step), step.order.pools(state.step))) as batches,
        reporter.training(training) as observer,
    ):
        tally = Tally(state.step, folder, observer.losses)
        if not state.history:
            _record(state, {}, _val_scores(generator, val, 0, folder, world)[0])
            observer.evaluated(state.history[-1], best=False)
        while state.step < schedule.steps and not state.stopped:
            tally.add(step(state.step, batches))
            state.step += 1
            observer.advance()
            if state.step % schedule.interval == 0 or state.step == schedule.steps:
                _evaluate(state, tally, step, generator, val, schedule, folder, world)
                observer.evaluated(state.history[-1], best=state.best["step"] == state.step)
                if world.first:
                    _save(state, step, folder, facts)
    world.wait()
    _load_best(step, folder)
    _finish(state, step, val, folder, facts, reporter, world)
    return state


def _load_best(step: Step, folder: Path) -> None:
    tensors, _ = checkpoint.load(folder / BEST)
    for key, network in step.networks().items():
        checkpoint.unpack(key, tensors, network, folder / BEST)


def _finish(
    state: State,
    step: Step,
    val: Inputs,
    folder: Path,
    facts: Mapping[str, Any],
    reporter: Reporter,
    world: World,
) -> None:
    """Choose the weight of the best critic for test time, keep it in `best`, and write the result."""
    if "critic" in step.networks():
        reporter.note("choosing the critic's weight for test time on val")
    beta = step.beta(val)
    with world.first_alone() as first:
        if first:
            if beta is not None:
                checkpoint.save(folder / BEST, _networks(step), {**facts, **state.best, "beta": beta})
            result = {"steps": state.step, "best_step": state.best["step"], "stopped_early": state.stopped}
            closing = {name: state.best[name] for name in ("val", "thresholds")}
            write_json(folder / RESULT, {**result, **closing, "beta": beta})


def _networks(step: Step) -> dict[str, Tensor]:
    """What a checkpoint keeps of the networks."""
    return {name: value for key, net in step.networks().items() for name, value in checkpoint.pack(key, net).items()}


def _evaluate(
    state: State,
    tally: Tally,
    step: Step,
    generator: Generator,
    val: Inputs,
    schedule: Schedule,
    folder: Path,
    world: World,
) -> None:
    """Score G (or D, where it alone is trained) on val, add the record, and see whether it is the best yet."""
    losses = {**tally.means(), **_gradient(generator)}
    scores, thresholds = _val_scores(generator, val, state.step, folder, world)
    quality = world.broadcast(step.quality(val))  # processes on unlike machines may differ in a last digit
    _record(state, losses if quality is None else {**losses, "critic_val": quality}, scores)
    if quality is not None:
        value = quality
    elif schedule.select == "last":
        value = float(state.step)
    else:
        value = scores[schedule.select]
    if not state.best or value > state.best["value"]:
        state.best = {"step": state.step, "value": value, "val": scores, "thresholds": thresholds}
    since = sum(record["step"] > state.best["step"] for record in state.history)
    state.stopped = bool(schedule.patience) and since >= schedule.patience


def _gradient(generator: Generator) -> dict[str, float]:
    """The norm of G's gradient at its last update, which costs nothing at the others; none where G is frozen."""
    gradients = [p.grad for p in generator.parameters() if p.grad is not None]
    return {"generator_gradient": float(get_total_norm(gradients))} if gradients else {}


def _record(state: State, losses: Mapping[str, float], scores: Mapping[str, Any]) -> None:
    kept = {name: value for name, value in scores.items() if name != "per_label"}
    state.history.append({"step": state.step, **losses, "val": kept})


def _val_scores(
    generator: Generator, val: Inputs, step: int, folder: Path, world: World
) -> tuple[dict[str, Any], dict[str, Any]]:
    logits = collect_logits(generator, val, world)
    if not np.isfinite(logits).all():
        raise diverged(f"the logits on val are not finite after step {step}", folder)
    rule = DecisionRule()
    scores = {"decision": rule.to_json(), **evaluate(logits, rule.decide(probabilities(logits)), val).to_json()}
    return scores, tuned_thresholds(logits, val)


def _save(state: State, step: Step, folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `last`, then what follows from it: `best` after `last`, so that `last` can always rebuild it."""
    networks = _networks(step)
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


def _resume(step: Step, folder: Path, reporter: Reporter, world: World) -> State:
    """Load `last` into the networks; the first process cuts everything else to fit it.

    Raises:
        CheckpointError: `last` is broken, or `best` is and cannot be rebuilt.
    """
    if world.first:
        checkpoint.sweep(folder)
    if not (folder / LAST).exists():
        if world.first:
            for leftover in (BEST, METRICS, RESULT):
                (folder / leftover).unlink(missing_ok=True)
        return State()
    tensors, facts = checkpoint.load(folder / LAST, ("step", "history", "best", "stopped"))
    for key, network in step.networks().items():
        checkpoint.unpack(key, tensors, network, folder / LAST)
    for key, optimizer in step.optimizers().items():
        checkpoint.unpack_optimizer(key, tensors, optimizer)
    state = State(facts["step"], facts["history"], facts["best"], facts["stopped"])
    if not world.first:
        return state
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
