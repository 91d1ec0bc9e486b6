"""The memory layout that fused optimizers need."""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A value with the strides of its parameter, as fused Adam needs for gradients and moments.

    Fused Adam reads the memory of weight, gradient and moments in parallel, so their strides must be equal. If they
    differ, a CPU updates entries with the gradients of other entries, and a GPU raises an error. `backward()` gives
    every gradient the strides of its parameter. `autograd.grad` keeps the strides that the kernel produced, which are
    channels last for a convolution over channels-last images. Strides of dimensions of length 1 are made equal too, so
    that no later check needs an exception for them.

    Args:
        parameter: the weight.
        value: its gradient or one of its moments, of the same shape.

    Returns:
        `value` itself if its strides are those of the parameter, else a copy.
    """
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
