"""From losses to one step down: in parts of a batch, and over the processes that share it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from labeldep_cli.distributed import World
from labeldep_cli.inputs import Batch

Part = tuple[Tensor, Sequence[Tensor]]
"""A part of the loss that is gone down, and of the losses that are told, scalars."""


def adam(network: nn.Module, lr: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Adam (Sect. 4.1) in one kernel a tensor, where plain Adam passes each of them a dozen times."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, fused=True)


def parts_of(batch: Batch, count: int) -> Iterator[tuple[slice, float]]:
    """Cut this process's rows of a batch into at most `count` parts.

    Yields:
        The rows of each, and their share of the whole batch, which weighs a mean over them. None where this process has
        no row of it.
    """
    n = len(batch.rows)
    size = max(-(-n // count), 1)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        yield rows, (rows.stop - start) / batch.whole


def update_in_parts(
    optimizer: torch.optim.Optimizer, names: Sequence[str], parts: Iterable[Part], world: World
) -> dict[str, Tensor]:
    """One step down a sum of losses; each is computed when the one before has let go of its activations.

    Other networks that a loss has passed through get no gradient of it.

    Args:
        optimizer: over one network.
        names: of the losses that are told.
        parts: of this process.
        world: the processes that train together.

    Returns:
        The losses of the whole batch, detached.
    """
    parameters = _parameters(optimizer)
    taken: Sequence[Tensor] | None = None
    told: Tensor | None = None
    for loss, values in parts:
        more = torch.autograd.grad(loss, parameters, materialize_grads=True)
        # Not in place: two parameters that are added up have one gradient between them.
        taken = more if taken is None else [one + other for one, other in zip(taken, more, strict=True)]
        value = torch.stack([value.detach() for value in values])
        told = value if told is None else told + value
    if taken is None or told is None:  # this process has no row of the batch
        taken, told = [torch.zeros_like(p) for p in parameters], parameters[0].new_zeros(len(names))
    return update(optimizer, taken, dict(zip(names, told, strict=True)), world)


def update(
    optimizer: torch.optim.Optimizer, taken: Sequence[Tensor], told: dict[str, Tensor], world: World
) -> dict[str, Tensor]:
    """One step down, after gradients and losses are summed over the processes that train together.

    Args:
        optimizer: over one network.
        taken: this process's part of the gradient of each of its parameters.
        told: this process's parts of the losses, scalars.
        world: those processes.

    Returns:
        The losses of the whole batch.
    """
    world.add([*taken, *told.values()])
    for parameter, gradient in zip(_parameters(optimizer), taken, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return told


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
