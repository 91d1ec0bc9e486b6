"""Choice of GPU kernels, where torch's default choice is not reproducible or not exact enough."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def repeatable_attention(x: Tensor) -> AbstractContextManager[None]:
    """Attention with a reproducible gradient: plain matrix products and a softmax, if x lies on a GPU.

    The backward passes of the fused kernels sum in an order that varies from run to run. Deterministic mode does not
    prevent this while it only warns. It must only warn, since other operations used in training here have no
    deterministic form. Without a gradient the fused kernels are used: their forward pass is reproducible.
    """
    return sdpa_kernel(SDPBackend.MATH) if x.is_cuda and torch.is_grad_enabled() else nullcontext()


@contextmanager
def exact_convolutions(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Within the block, compute float32 convolutions in full float32: by default cuDNN uses TF32, with 10 bits.

    Args:
        device: the device of the convolutions; nothing changes unless it is a GPU.
        dtype: of weights and feature maps; nothing changes unless it is float32.
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
    """Compute float32 convolutions in full float32 for the rest of the process."""
    setattr(*_convolutions_setting())


def _convolutions_setting() -> tuple[Any, str, object]:
    """The object that holds torch's setting, the attribute's name, and its value for full float32."""
    # Newer torch has a setting for each operation. It warns about the common one, or fails if the two differ.
    if hasattr(torch.backends.cudnn, "conv"):
        return torch.backends.cudnn.conv, "fp32_precision", "ieee"
    return torch.backends.cudnn, "allow_tf32", False
