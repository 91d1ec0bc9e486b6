"""Which of a GPU's kernels compute, where the ones that torch chooses would not give the numbers that are promised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def repeatable_attention(x: Tensor) -> AbstractContextManager[None]:
    """Attention whose gradient is the same each time: by plain products and a softmax, where x lies on a GPU.

    The backward passes of the fused kernels add up in whatever order their blocks end. Deterministic mode changes
    nothing about it as long as it only warns, as it has to: other operations that are trained here have no exact form.
    Without a gradient the fused kernels stay: forward they repeat their numbers.
    """
    return sdpa_kernel(SDPBackend.MATH) if x.is_cuda and torch.is_grad_enabled() else nullcontext()


@contextmanager
def exact_convolutions(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Convolutions in float32 where that is their dtype: by default cuDNN computes them in TF32's 10 bits.

    Args:
        device: that they run on; nothing changes but on a GPU.
        dtype: of weights and maps.
    """
    if device.type != "cuda" or dtype != torch.float32:
        yield
        return
    owner, name, exact = _convolutions_setting()
    before = getattr(owner, name)
    setattr(owner, name, exact)
    try:
        yield
    finally:
        setattr(owner, name, before)


def make_convolutions_exact() -> None:
    """The same for all of the process, from now on."""
    setattr(*_convolutions_setting())


def _convolutions_setting() -> tuple[Any, str, object]:
    """Where torch keeps it, by what name, and what it is for float32."""
    # Newer torch has a setting for each operation, and warns of the common one, or fails where the two differ.
    if hasattr(torch.backends.cudnn, "conv"):
        return torch.backends.cudnn.conv, "fp32_precision", "ieee"
    return torch.backends.cudnn, "allow_tf32", False
