"""The state of a training, and how it is stored on the disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from labeldep_cli.compute.distributed import World
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import write_text
from labeldep_cli.progress import Reporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.facts import require_last
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training.steps import Step

_PROGRESS = ("step", "history", "best", "stopped")
"""The fields of a state that every `last` contains."""


@dataclass
class State:
    """The state of a training. On the disk it is defined by `last.safetensors` alone.

    Attributes:
        step: number of generator updates so far.
        history: one record per evaluation, the lines of metrics.jsonl.
        best: the best evaluation: its step, the value that selected it, scores on val, thresholds tuned on val. Empty
            before the first evaluation after an update.
        stopped: whether `--patience` ended the training.
        unevaluated: for a run that was interrupted between two evaluations, what the next record needs from the updates
            since the previous one: "losses" by name, one number per update, and the "gradient" of the last update.
    """

    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False
    unevaluated: dict[str, Any] = field(default_factory=dict)


def save(state: State, step: Step[Any], folder: Path, facts: Mapping[str, Any]) -> None:
    """Write `last`, then `best` and metrics.jsonl. In this order, both can always be rebuilt from `last`."""
    networks = packed_networks(step)
    optimizers = {
        name: value
        for key, opt in step.optimizers().items()
        for name, value in checkpoint.pack_optimizer(key, opt).items()
    }
    progress = {name: getattr(state, name) for name in _PROGRESS}
    if state.unevaluated:
        progress["unevaluated"] = state.unevaluated
    checkpoint.save(folder / LAST, networks | optimizers, {**facts, **progress})
    if state.best.get("step") == state.step:
        checkpoint.save(folder / BEST, networks, {**facts, **state.best})
    _write_metrics(state, folder)


def _write_metrics(state: State, folder: Path) -> None:
    write_text(folder / METRICS, "".join(json.dumps(record) + "\n" for record in state.history))


def resume(step: Step[Any], folder: Path, reporter: Reporter, world: World) -> State:
    """Load `last` into the networks. The first process also changes or removes the other files to fit it.

    Raises:
        CheckpointError: `last` is broken, or `best` is broken and cannot be rebuilt.
    """
    if world.first:
        checkpoint.sweep(folder)
    if not (folder / LAST).exists():
        if world.first:
            for leftover in (BEST, METRICS, RESULT):
                (folder / leftover).unlink(missing_ok=True)
        return State()
    tensors, facts = checkpoint.load(folder / LAST, require_last)
    for key, network in step.networks().items():
        checkpoint.unpack(key, tensors, network, folder / LAST)
    for key, optimizer in step.optimizers().items():
        checkpoint.unpack_optimizer(key, tensors, optimizer)
    state = State(**{name: facts[name] for name in _PROGRESS}, unevaluated=facts.get("unevaluated", {}))
    if not world.first:
        return state
    reporter.note(f"resuming at step {state.step} of {folder}")
    if not state.best:
        (folder / BEST).unlink(missing_ok=True)
    elif checkpoint.read_facts(folder / BEST).get("step") != state.best["step"]:
        # `best` is written before the next step. So after a kill between `last` and `best`, `last` is the best.
        if state.best["step"] != state.step:
            raise CheckpointError(
                f"{folder / BEST} is missing or broken, and {LAST} (step {state.step}) is past it "
                f"(step {state.best['step']})",
                "Put it back, or train again from scratch: the same command with --fresh.",
            )
        run_facts = {key: value for key, value in facts.items() if key not in (*_PROGRESS, "unevaluated")}
        networks = {name: value for name, value in tensors.items() if name.partition(".")[0] in step.networks()}
        checkpoint.save(folder / BEST, networks, {**run_facts, **state.best})
    _write_metrics(state, folder)
    return state


def load_best(step: Step[Any], folder: Path) -> None:
    """Load the best checkpoint into the networks.

    Raises:
        CheckpointError: it is missing or broken.
    """
    tensors, _ = checkpoint.load(folder / BEST)
    for key, network in step.networks().items():
        checkpoint.unpack(key, tensors, network, folder / BEST)


def packed_networks(step: Step[Any]) -> dict[str, Tensor]:
    """The weights of the networks, as a checkpoint stores them."""
    return {name: value for key, net in step.networks().items() for name, value in checkpoint.pack(key, net).items()}
