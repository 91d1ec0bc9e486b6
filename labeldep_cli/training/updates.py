"""From losses to an optimizer step: over the parts of a batch, and over the processes that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from labeldep_cli.compute.distributed import World
from labeldep_cli.compute.strides import laid_out_like
from labeldep_cli.inputs.batches import Batch


class Update(NamedTuple):
    """An update of one network.

    Attributes:
        optimizer: over the network.
        make: takes the batches of the update, makes it and returns its losses, detached. It only launches kernels.
    """

    optimizer: torch.optim.Optimizer
    make: Callable[[Sequence[Batch]], dict[str, Tensor]]


class Part(NamedTuple):
    """The loss of one part of a batch.

    Attributes:
        output: the tensor to differentiate: the loss, or the logits if `gradient` is given.
        losses: losses of the part, scalars, for the record.
        gradient: gradient of the loss with respect to `output`, of the same shape; None if `output` is the loss itself.
    """

    output: Tensor
    losses: Sequence[Tensor]
    gradient: Tensor | None = None


def adam(network: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """Adam (Sect. 4.1) with one kernel per tensor; unfused Adam passes over each tensor a dozen times.

    With a weight decay W it is AdamW ("Decoupled Weight Decay Regularization", Loshchilov and Hutter, ICLR 2019): each
    update first multiplies weights by 1 - lr * W. Biases and the parameters of norms (those with one dimension) do not
    decay: they do not make a function steeper, and a bias has to hold how frequent a label is.
    """
    if not weight_decay:
        return torch.optim.Adam(network.parameters(), lr=lr, betas=betas, fused=True)
    # A group for each parameter: the order of the gradients is that of `network.parameters()`.
    groups = [{"params": [p], "weight_decay": weight_decay if p.dim() > 1 else 0.0} for p in network.parameters()]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def parts_of(batch: Batch, count: int) -> Iterator[tuple[slice, float]]:
    """Cut this process's rows of a batch into at most `count` parts.

    Yields:
        The rows of each part, and their share of the global batch, which is the weight of a mean over the part. Nothing
        if this process has no row of the batch.
    """
    n = len(batch.rows)
    size = max(-(-n // count), 1)
    for start in range(0, n, size):
        rows = slice(start, min(start + size, n))
        yield rows, (rows.stop - start) / batch.global_batch_size


def update_in_parts(
    optimizer: torch.optim.Optimizer, names: Sequence[str], parts: Iterable[Part], world: World, max_norm: float
) -> dict[str, Tensor]:
    """One optimizer step on a sum of losses.

    The parts are differentiated one by one, so the activations of only one part are in memory at a time. Only the
    network of the optimizer gets gradients; other networks that the losses depend on get none.

    Args:
        optimizer: over one network.
        names: names of the recorded losses.
        parts: the parts of this process.
        world: the processes that train together.
        max_norm: as in `update`.

    Returns:
        The losses of the global batch, detached.
    """
    parameters = parameters_of(optimizer)
    gradients: Sequence[Tensor] | None = None
    losses: Tensor | None = None
    for output, values, gradient in parts:
        more = torch.autograd.grad(output, parameters, gradient, materialize_grads=True)
        # Not in place: two parameters whose sum is used can share one gradient tensor.
        gradients = more if gradients is None else [total + part for total, part in zip(gradients, more, strict=True)]
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
    """One optimizer step, after gradients and losses are summed over the processes that train together.

    Args:
        optimizer: over one network.
        gradients: this process's part of the gradient of each parameter.
        losses: this process's parts of the losses, scalars.
        world: the processes that train together.
        max_norm: if the norm of the gradient over all parameters is larger, it is scaled down to this value; 0: never.

    Returns:
        The losses of the global batch.
    """
    parameters = parameters_of(optimizer)
    gradients = [laid_out_like(parameter, grad) for parameter, grad in zip(parameters, gradients, strict=True)]
    world.add([*gradients, *losses.values()])
    if max_norm:
        gradients = _clipped(gradients, max_norm)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return losses


def _clipped(gradients: Sequence[Tensor], max_norm: float) -> list[Tensor]:
    """Like `torch.nn.utils.clip_grad_norm_`, but not in place: two parameters may share one gradient tensor."""
    factor = (max_norm / (get_total_norm(gradients) + 1e-6)).clamp(max=1.0)
    return [gradient * factor for gradient in gradients]


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """The parameters of an optimizer, in order."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
