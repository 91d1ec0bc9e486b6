"""One update of the networks: the interface of every step, and the logistic step (Sect. 3.2).

A step is called with its number and a stream of batches. `requests` names the batches of each of its updates, together
with all random numbers for them. So images are decoded ahead of their use, random numbers are copied to the device once
per update, and an update is a function of tensors on the device: it draws nothing and waits for nothing.

If several processes train together, random numbers are drawn for the global batch, and each process takes its share of
the rows. Every loss is a part of a mean over the global batch, and losses and gradients are summed over the processes.
So the result is that of one process. (DistributedDataParallel would give gradients of unequal shares equal weight, and
it is wrong for a loss that contains autograd.grad, such as the gradient penalty.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from labeldep_cli.compute.devices import mixed_precision
from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import TrainingConfig
from labeldep_cli.evaluation.decisions import Outputs
from labeldep_cli.inputs.batches import Batch, Inputs, Request
from labeldep_cli.models.generator import Generator
from labeldep_cli.training import losses
from labeldep_cli.training.draws import Order, random_views
from labeldep_cli.training.updates import Part, adam, parts_of, update_in_parts

Given = TypeVar("Given", contravariant=True)
"""What a step takes for an update."""


class Step(Protocol[Given]):
    """The interface between `fit` and the kinds of training.

    Attributes:
        order: the order of the training rows.
    """

    order: Order

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """The batches of each update of the steps first, first + 1, ..., without end."""

    def __call__(self, step: int, batches: Iterator[Given]) -> Mapping[str, Tensor]:
        """Update D, if there is one, and then G once; returns the losses, detached.

        Args:
            step: its number.
            batches: for each update what is made of its requests: batches, for most steps.
        """

    def quality(self, val: Inputs) -> float | None:
        """The value that selects the best evaluation, higher is better; None if the generator's score selects it."""

    def test_weights(self, outputs: Outputs, labels: Tensor) -> Mapping[str, float]:
        """The weights of a decision by the critic, chosen on val: "beta", D's, and "prior", G's, if it is not 1.

        Args:
            outputs: of G for val.
            labels: of val, int8 [N, L], on G's device; -1 where unknown.

        Returns:
            Empty without a critic.
        """

    def networks(self) -> Mapping[str, nn.Module]:
        """The networks that every checkpoint stores."""

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers, which are also stored in the checkpoint from which training continues."""


class LogisticStep:
    """G on the logistic loss alone: pretraining (Sect. 3.2), and the control of the adversarial stage.

    Args:
        generator: G.
        inputs: the training rows.
        config: batch size, learning rate, seed.
        weight: weight of the loss; alpha for the control, so that only the critic distinguishes it from the adversarial
            stage.
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
        self.optimizer = adam(generator, config.learning_rate, (config.beta1, config.beta2), config.weight_decay)

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """One batch per step, in epochs of permuted rows."""
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

        name = self.generator.head.own_loss or self.config.loss
        return update_in_parts(self.optimizer, (name,), parts(), self.world, self.config.max_gradient_norm)

    def quality(self, val: Inputs) -> float | None:
        """None: the generator's score selects the best evaluation."""
        return None

    def test_weights(self, outputs: Outputs, labels: Tensor) -> Mapping[str, float]:
        """Empty: there is no critic."""
        return {}

    def networks(self) -> Mapping[str, nn.Module]:
        """G alone."""
        return {"generator": self.generator}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizer of G."""
        return {"optimizer_g": self.optimizer}


def generator_request(inputs: Inputs, order: Order, step: int) -> Request:
    """G's global batch at a step."""
    rows = order.generator_rows(step)
    return Request(rows, random_views(len(rows), inputs.n_views, order.seed, "views", step), len(rows))


def share_of(request: Request, world: World) -> Request:
    """This process's rows of a global batch, with the random numbers drawn for them."""
    rows, views, global_batch_size, needs_x, draws = request
    part = world.share(global_batch_size)
    return Request(rows[part], views[part], global_batch_size, needs_x, tuple(drawn[part] for drawn in draws))
