"""Copies between host and device, and double precision, on devices that differ in both."""

from __future__ import annotations

import torch
from torch import Tensor


def copies_ahead(device: torch.device) -> bool:
    """Whether a copy may go on while the host does.

    Only CUDA orders such copies with the kernels after them, and has events for their end. On Apple's GPUs a copy that
    is not waited for reads memory that may be gone.
    """
    return device.type == "cuda"


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; the host waits only where it has to."""
    return x.to(device, non_blocking=copies_ahead(device))


def in_double(x: Tensor) -> Tensor:
    """A tensor as float64: on its own device, or on the CPU if its device is Apple's GPU, which has no float64."""
    return (x.cpu() if x.device.type == "mps" else x).double()
