"""The adversarial step in head mode as CUDA graphs: each kind of update is recorded once, and then replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from labeldep_cli.compute.graphs import Graph
from labeldep_cli.evaluation.decisions import Outputs
from labeldep_cli.inputs.ahead import AheadOfUse, Packed
from labeldep_cli.inputs.batches import Inputs, Request
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.steps import Step
from labeldep_cli.training.updates import Update, parameters_of


def with_graphs(step: Step[Any]) -> GraphedStep | str:
    """The step with its updates as graphs; or why they cannot be recorded, in words."""
    if not isinstance(step, AdversarialStep):
        return "only --critic wgan-gp and nce have updates that can be recorded"
    if step.inputs.device.type != "cuda":
        return f"the device is {step.inputs.device.type}"
    if step.world.size > 1:
        return f"{step.world.size} processes train together"
    if not isinstance(step.inputs, FeatureInputs):
        return "the features are streamed" if step.inputs.blocks else "images are decoded while training"
    if step.generator.head.waits:
        return "the head decides on the host what it computes next"
    return GraphedStep(step, step.inputs)


class GraphedStep:
    """An adversarial step whose updates are replays of graphs; the numbers are those of the step.

    There is one graph for each network and layout of its requests: one for each member of D, and two for G, since the
    last batch of an epoch may be smaller. Rows and random numbers are copied to a buffer at a fixed address. The graph
    looks the rows up and makes the update. Every update is a replay, also the first one. So a run that was
    interrupted launches the same kernels as one that was not.

    Args:
        step: as `with_graphs` requires it.
        inputs: those of the step.

    Attributes:
        source: makes of the step's requests what this step takes.
    """

    def __init__(self, step: AdversarialStep, inputs: FeatureInputs) -> None:
        self._step = step
        self._inputs = inputs
        self._graphs: dict[tuple[object, ...], _UpdateGraph] = {}
        self.order = step.order
        self.source = AheadOfUse(inputs.device)

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """Those of the step; the updates are recorded anew, since a checkpoint may have replaced Adam's moments."""
        self._graphs.clear()
        return self._step.requests(first)

    def __call__(self, step: int, batches: Iterator[Packed]) -> Mapping[str, Tensor]:
        """Update D `critic_steps` times and G once."""
        replayed = {}
        for update in self._step.updates(step):
            packed = next(batches)
            key = (id(update.optimizer), packed.layout)
            if key not in self._graphs:
                self._graphs[key] = _UpdateGraph(update, packed, self._inputs)
            self._graphs[key].replay(packed)
            replayed[key] = self._graphs[key]
        record: dict[str, Tensor] = {}
        for graph in replayed.values():
            record |= graph.losses()
        return record

    def networks(self) -> Mapping[str, nn.Module]:
        """G and D."""
        return self._step.networks()

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers of G and D."""
        return self._step.optimizers()

    def quality(self, val: Inputs) -> float | None:
        """How well D separates real sets from samples of G, if only D is trained; computed without graphs."""
        return self._step.quality(val)

    def test_weights(self, outputs: Outputs, labels: Tensor) -> Mapping[str, float]:
        """The weight of D at test time; computed without graphs."""
        return self._step.test_weights(outputs, labels)


class _UpdateGraph:
    """The recorded update of one network, for requests of one layout.

    Args:
        update: what is recorded.
        packed: its requests; they serve in the warm-up.
        inputs: the rows that are looked up.
    """

    def __init__(self, update: Update, packed: Packed, inputs: FeatureInputs) -> None:
        optimizer = update.optimizer
        self._parameters = parameters_of(optimizer)
        self._buffer = torch.empty(len(packed.packed), dtype=torch.uint8, device=inputs.device)
        packed.load(self._buffer)
        requests = packed.within(self._buffer)

        def recorded() -> tuple[tuple[str, ...], Tensor]:
            for group in optimizer.param_groups:  # Adam asks for this in a recording, and warns of it outside
                group["capturable"] = torch.cuda.is_current_stream_capturing()
            losses = update.make([inputs.look_up(request) for request in requests])
            return tuple(losses), torch.stack(list(losses.values()))

        self._graph = Graph(recorded, remembered(optimizer), inputs.device)
        self._gradients = [parameter.grad for parameter in self._parameters]

    def replay(self, packed: Packed) -> None:
        """Make the update with the rows and draws of other requests of the same layout."""
        packed.load(self._buffer)
        self._graph.replay()
        # A replay runs no Python: without this, `grad` would be that of the graph that was recorded last.
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient

    def losses(self) -> dict[str, Tensor]:
        """The losses of the last replay. They are copies: the next replay overwrites its own."""
        names, values = self._graph.result
        return dict(zip(names, values.clone().unbind(), strict=True))


def remembered(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Remember the weights of an optimizer's network and the optimizer's state.

    Returns:
        A function that puts the numbers back in place: every tensor keeps its address. State that did not exist yet
        becomes 0, as Adam makes it.
    """
    parameters = parameters_of(optimizer)
    weights = [parameter.detach().clone() for parameter in parameters]
    states = [
        {name: value.clone() for name, value in optimizer.state.get(parameter, {}).items()} for parameter in parameters
    ]

    @torch.no_grad()
    def put_back() -> None:
        for parameter, weight, before in zip(parameters, weights, states, strict=True):
            parameter.copy_(weight)
            for name, value in optimizer.state[parameter].items():
                if name in before:
                    value.copy_(before[name])
                else:
                    value.zero_()

    return put_back
