"""The memory layout that fused optimizers need."""

from __future__ import annotations

import torch
from torch import Tensor


def laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A value with the strides of its parameter, as fused Adam needs its gradients and moments.

    Fused Adam walks the memory of weight, gradient and moments side by side, so their strides must be equal: a CPU
    moves entries by other entries' gradients where they are not, a GPU refuses. `backward()` gives every gradient its
    parameter's strides; `autograd.grad` gives what the kernel made, which for a convolution over channels-last images
    is channels last. Sides of length 1 count too: then no later check has to know that they do not matter.

    Args:
        parameter: the weight.
        value: its gradient or one of its moments, of the same shape.

    Returns:
        `value` itself where its strides are the parameter's, else a copy.
    """
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)
