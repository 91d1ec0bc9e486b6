"""From losses to one step down: in parts of a batch, and over the processes that share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from labeldep_cli.compute.distributed import World
from labeldep_cli.compute.strides import laid_out_like
from labeldep_cli.inputs.batches import Batch


class Part(NamedTuple):
    """A part of a batch, as an update sees it.

    Attributes:
        output: what the network's gradient is taken of: a loss, or the logits where `gradient` is given.
        losses: of the part, scalars, for the record.
        gradient: the loss's gradient with respect to `output`, of its shape; None where `output` is the loss itself.
    """

    output: Tensor
    losses: Sequence[Tensor]
    gradient: Tensor | None = None


def adam(network: nn.Module, lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Adam (Sect. 4.1) in one kernel a tensor, where plain Adam passes each of them a dozen times."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, fused=True)


def parts_of(batch: Batch, count: int) -> Iterator[tuple[slice, float]]:
    """Cut this process's rows of a batch into at most `count` parts.

    Yields:
        The rows of each, and their share of the global batch, which weighs a mean over them. None where this process
        has no row of it.
    """
    n = len(batch.rows)
    size = max(-(-n // count), 1)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        yield rows, (rows.stop - start) / batch.global_batch_size


def update_in_parts(
    optimizer: torch.optim.Optimizer, names: Sequence[str], parts: Iterable[Part], world: World, max_norm: float
) -> dict[str, Tensor]:
    """One step down a sum of losses; each is computed when the one before has let go of its activations.

    Other networks that a loss has passed through get no gradient of it.

    Args:
        optimizer: over one network.
        names: of the recorded losses.
        parts: of this process.
        world: the processes that train together.
        max_norm: as for `update`.

    Returns:
        The losses of the global batch, detached.
    """
    parameters = _parameters(optimizer)
    gradients: Sequence[Tensor] | None = None
    losses: Tensor | None = None
    for output, values, gradient in parts:
        more = torch.autograd.grad(output, parameters, gradient, materialize_grads=True)
        # Not in place: two parameters that are added up have one gradient between them.
        gradients = more if gradients is None else [one + other for one, other in zip(gradients, more, strict=True)]
        value = torch.stack([value.detach() for value in values])
        losses = value if losses is None else losses + value
    if gradients is None or losses is None:  # this process has no row of the batch
        gradients, losses = [torch.zeros_like(p) for p in parameters], parameters[0].new_zeros(len(names))
    return update(optimizer, gradients, dict(zip(names, losses, strict=True)), world, max_norm)


def update(
    optimizer: torch.optim.Optimizer,
    gradients: Sequence[Tensor],
    losses: dict[str, Tensor],
    world: World,
    max_norm: float,
) -> dict[str, Tensor]:
    """One step down, after gradients and losses are summed over the processes that train together.

    Args:
        optimizer: over one network.
        gradients: this process's part of the gradient of each of its parameters.
        losses: this process's parts of the losses, scalars.
        world: those processes.
        max_norm: the gradient over all parameters is scaled down to this norm where it is longer; 0 for never.

    Returns:
        The losses of the global batch.
    """
    parameters = _parameters(optimizer)
    gradients = [laid_out_like(parameter, one) for parameter, one in zip(parameters, gradients, strict=True)]
    world.add([*gradients, *losses.values()])
    if max_norm:
        gradients = _shortened(gradients, max_norm)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return losses


def _shortened(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """As `torch.nn.utils.clip_grad_norm_`, but not in place: two parameters may have one gradient between them."""
    factor = (max_norm / (get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
    return [gradient * factor for gradient in gradients]


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
