"""The training loop, the same for both stages and both modes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from torch.nn.utils import get_total_norm

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.compute.interruption import deferred
from labeldep_cli.config import Selection, TrainingConfig
from labeldep_cli.evaluation.decisions import outputs_of
from labeldep_cli.evaluation.evaluate import collect_logits, evaluate, probabilities, tuned_thresholds
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.files import write_json
from labeldep_cli.inputs.batches import Inputs, Stream
from labeldep_cli.models.generator import Generator
from labeldep_cli.progress import Reporter, TrainingProgress
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, RESULT
from labeldep_cli.runs.run import Run
from labeldep_cli.training.confidence import calibrated
from labeldep_cli.training.state import State, load_best, packed_networks, resume, save
from labeldep_cli.training.steps import Step
from labeldep_cli.training.tally import Tally, diverged

Given = TypeVar("Given")


@dataclass(frozen=True)
class Schedule:
    """How long to train.

    Attributes:
        steps: total number of generator updates.
        steps_per_epoch: ceil(N / batch size).
        patience: training stops after this number of evaluations without a better one; 0 for no limit.
        min_interval: minimum number of steps between evaluations.
        select: the evaluation to keep: "last", or the score on val whose best value decides.
    """

    steps: int
    steps_per_epoch: int
    patience: int = 0
    min_interval: int = 1
    select: Selection = TrainingConfig.SELECT

    @property
    def interval(self) -> int:
        """Steps between evaluations: the smallest number of epochs that has at least `min_interval` steps."""
        return self.steps_per_epoch * -(-self.min_interval // self.steps_per_epoch)

    def is_due(self, state: State) -> bool:
        """Whether an evaluation is due at the present step."""
        at_interval = state.step % self.interval == 0 or state.step == self.steps
        return at_interval and state.history[-1]["step"] < state.step


def fit(
    step: Step[Given],
    generator: Generator,
    train: Stream[Given],
    val: Inputs,
    schedule: Schedule,
    folder: Path,
    facts: Mapping[str, Any],
    reporter: Reporter,
    world: World = ALONE,
) -> State:
    """Train until the schedule ends, with evaluations and checkpoints; continue from `last` if it exists.

    The first interruption (Ctrl-C in the main thread) ends training after the update in progress and writes `last` at
    that step. A second one ends training immediately and leaves `last` unchanged. An interruption during an evaluation
    cancels the evaluation and writes `last`. With several processes, interruptions are not deferred.

    Args:
        step: makes one update of the networks.
        generator: G, which the step trains.
        train: what makes of the step's requests what the step takes; the inputs of train, for most steps.
        val: inputs of val, on which the best evaluation is chosen.
        schedule: when to evaluate and when to stop.
        folder: folder of the run; its four files are written here.
        facts: what every checkpoint of this run stores about the run (JSON values).
        reporter: receives progress and notes; no number depends on it.
        world: the processes that train together; the first one writes.

    Returns:
        The final state.

    Raises:
        TrainingError: a loss is not finite; names the step and the last good checkpoint.
        KeyboardInterrupt: training was interrupted.
    """
    with world.first_alone():
        state = resume(step, folder, reporter, world)
    generator.train()
    best = state.best.get("step")
    training = TrainingProgress(folder.name, schedule.steps, tuple(state.history), best, state.step)

    def announce() -> None:
        reporter.note(f"finishing step {state.step + 1}, then saving; press Ctrl-C again to stop now")

    with (
        closing(train.stream(step.requests(state.step), step.order.pools(state.step))) as batches,
        reporter.training(training) as observer,
        deferred(announce, enabled=world.size == 1) as interruption,
    ):
        tally = Tally(state.step, folder, observer.losses, state.unevaluated.get("losses"))
        if not state.history:
            with interruption.at_once():
                scores, _ = _val_scores(generator, val, 0, folder, world)
            _record(state, {}, scores)
            observer.evaluated(state.history[-1], best=False)
        while (due := schedule.is_due(state)) or (state.step < schedule.steps and not state.stopped):
            if due:
                try:
                    with interruption.at_once():
                        measured = _measure(state, tally, step, generator, val, folder, world)
                except KeyboardInterrupt:
                    if world.size == 1:
                        _save_interrupted(state, tally, step, generator, folder, facts, reporter)
                    raise
                _conclude(state, measured, schedule)
                tally.reset()
                observer.evaluated(state.history[-1], best=state.best["step"] == state.step)
                if world.first:
                    save(state, step, folder, facts)
            else:
                tally.add(step(state.step, batches))
                state.step += 1
                observer.advance()
            if interruption.requested:
                if not due:
                    _save_interrupted(state, tally, step, generator, folder, facts, reporter)
                raise KeyboardInterrupt
    world.wait()
    load_best(step, folder)
    _finish(state, step, generator, val, folder, facts, reporter, world)
    return state


def _finish(
    state: State,
    step: Step[Any],
    generator: Generator,
    val: Inputs,
    folder: Path,
    facts: Mapping[str, Any],
    reporter: Reporter,
    world: World,
) -> None:
    """Choose on val what decisions at test time need, store it in `best`, and write the result.

    These are the weights of the best critic, and the temperature of each confidence.
    """
    if "critic" in step.networks():
        reporter.note("choosing the critic's weight for test time on val")
    generator.eval()
    outputs = outputs_of(generator, val, collect_logits(generator, val, world))
    with world.first_alone() as first:
        if first:
            weights = step.test_weights(outputs, val.device_labels)
            of_best = {**facts, **state.best, **weights}
            confidence = calibrated(Run(folder, {}, of_best), outputs, val, reporter)
            checkpoint.save(folder / BEST, packed_networks(step), {**of_best, "confidence": confidence})
            result = {"steps": state.step, "best_step": state.best["step"], "stopped_early": state.stopped}
            chosen = {name: state.best[name] for name in ("val", "thresholds")}
            write_json(folder / RESULT, {**result, **chosen, "beta": None, **weights})


class _Measured(NamedTuple):
    """An evaluation that is not yet part of the state.

    Attributes:
        losses: means of the losses since the previous evaluation; also the critic's quality if it selects.
        scores: scores of G on val.
        thresholds: thresholds tuned on val.
        quality: quality of D; None if G's score selects the best evaluation.
    """

    losses: Mapping[str, float]
    scores: Mapping[str, Any]
    thresholds: Mapping[str, Any]
    quality: float | None


def _measure(
    state: State, tally: Tally, step: Step[Any], generator: Generator, val: Inputs, folder: Path, world: World
) -> _Measured:
    """Score G on val (and D, if only D is trained); nothing is changed."""
    losses = {**tally.means(), **(_gradient(generator) or state.unevaluated.get("gradient", {}))}
    scores, thresholds = _val_scores(generator, val, state.step, folder, world)
    quality = world.broadcast(step.quality(val))  # on different machines the last digits may differ
    return _Measured(losses if quality is None else {**losses, "critic_val": quality}, scores, thresholds, quality)


def _conclude(state: State, measured: _Measured, schedule: Schedule) -> None:
    """Add an evaluation to the state: its record, whether it is the best so far, and whether training stops."""
    losses, scores, thresholds, quality = measured
    _record(state, losses, scores)
    state.unevaluated = {}
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
    """The norm of G's gradient at its last update; empty if G is frozen. Computed only for records, not each step."""
    gradients = [p.grad for p in generator.parameters() if p.grad is not None]
    return {"generator_gradient": float(get_total_norm(gradients))} if gradients else {}


def _record(state: State, losses: Mapping[str, float], scores: Mapping[str, Any]) -> None:
    overall = {name: value for name, value in scores.items() if name != "per_label"}
    state.history.append({"step": state.step, **losses, "val": overall})


def _val_scores(
    generator: Generator, val: Inputs, step: int, folder: Path, world: World
) -> tuple[dict[str, Any], dict[str, Any]]:
    logits = collect_logits(generator, val, world)
    if not np.isfinite(logits).all():
        raise diverged(f"the logits on val are not finite after step {step}", folder)
    rule = DecisionRule()
    scores = {"decision": rule.to_json(), **evaluate(logits, rule.decide(probabilities(logits)), val).to_json()}
    return scores, tuned_thresholds(logits, val)


def _save_interrupted(
    state: State,
    tally: Tally,
    step: Step[Any],
    generator: Generator,
    folder: Path,
    facts: Mapping[str, Any],
    reporter: Reporter,
) -> None:
    """Write `last` between two evaluations, with the losses and the gradient that the next evaluation records."""
    gradient = _gradient(generator) or state.unevaluated.get("gradient", {})
    state.unevaluated = {"losses": tally.losses(), "gradient": gradient}
    save(state, step, folder, facts)
    reporter.note(f"saved at step {state.step}")
