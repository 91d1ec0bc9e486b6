"""One update of the networks: what every step is, and the logistic step (Sect. 3.2).

A step is called with its number and a stream that brings the batches of each of its updates; `requests` says which
ones, and brings all that is drawn for them. So images are decoded ahead of their use, draws travel to the device in one
copy an update, and an update itself is a function of tensors that lie there: it draws nothing and waits for nothing.

Where several processes train together, all draws are those of the global batch, of which each process takes its
share; every loss is a part of a mean over the global batch, and losses and gradients are summed over the processes. So
they compute what one would. (DistributedDataParallel would average gradients of unequal shares alike, and is wrong for
a loss that autograd.grad has passed through, as the penalty's.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Protocol

import torch
from torch import Tensor, nn

from labeldep_cli.compute.devices import mixed_precision
from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import TrainingConfig
from labeldep_cli.inputs.batches import Batch, Inputs, Request
from labeldep_cli.models.generator import Generator
from labeldep_cli.training import losses
from labeldep_cli.training.draws import Order, random_views
from labeldep_cli.training.updates import Part, adam, parts_of, update_in_parts


class Step(Protocol):
    """What `fit` runs.

    Attributes:
        order: of the training rows.
    """

    order: Order

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """The batches of each update of steps first, first + 1, ...: endless."""

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """Make one update of G (and those of D before it); the losses, detached."""

    def quality(self, val: Inputs) -> float | None:
        """What chooses the best evaluation, higher is better; None for the generator's own score."""

    def beta(self, val: Inputs) -> float | None:
        """The critic's weight at test time, chosen on val; None without a critic."""

    def networks(self) -> Mapping[str, nn.Module]:
        """What a checkpoint keeps."""

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """What a checkpoint to go on from keeps too."""


class LogisticStep:
    """G on the logistic loss alone: pretraining (Sect. 3.2), and the control of the adversarial stage.

    Args:
        generator: G.
        inputs: the training rows.
        config: batch size, learning rate, seed.
        weight: of the loss; alpha for the control, so that it differs from the adversarial stage by the critic alone.
        world: the processes that train together.
    """

    def __init__(
        self, generator: Generator, inputs: Inputs, config: TrainingConfig, weight: float = 1.0, world: World = ALONE
    ) -> None:
        self.generator = generator
        self.inputs = inputs
        self.config = config
        self.weight = weight
        self.order = Order.of(inputs, config)
        self.world = world
        self.optimizer = adam(generator, config.learning_rate, (config.beta1, config.beta2))

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """One batch a step: epochs of permuted rows."""
        for step in count(first):
            yield [share_of(generator_request(self.inputs, self.order, step), self.world)]

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """Update G once."""
        (batch,) = next(batches)
        of_logits = losses.loss_of_logits(self.config.loss, self.config.label_reduction)

        def parts() -> Iterator[Part]:
            for rows, share in parts_of(batch, self.config.accumulate):
                with mixed_precision(self.inputs.device):
                    loss = share * self.generator.loss(batch.x[rows], batch.y[rows], of_logits)
                yield Part(self.weight * loss, (loss,))

        name = "sequence" if self.generator.head.sequential else self.config.loss
        return update_in_parts(self.optimizer, (name,), parts(), self.world, self.config.max_gradient_norm)

    def quality(self, val: Inputs) -> float | None:
        """None: the generator's own score chooses the best evaluation."""
        return None

    def beta(self, val: Inputs) -> float | None:
        """None: there is no critic."""
        return None

    def networks(self) -> Mapping[str, nn.Module]:
        """G alone."""
        return {"generator": self.generator}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """G's."""
        return {"optimizer_g": self.optimizer}


def generator_request(inputs: Inputs, order: Order, step: int) -> Request:
    """G's batch at a step, over all processes."""
    rows = order.generator_rows(step)
    return Request(rows, random_views(len(rows), inputs.n_views, order.seed, "views", step), len(rows))


def share_of(request: Request, world: World) -> Request:
    """This process's rows of a batch, and what was drawn for them."""
    rows, views, global_batch_size, needs_x, draws = request
    part = world.share(global_batch_size)
    return Request(rows[part], views[part], global_batch_size, needs_x, tuple(drawn[part] for drawn in draws))
