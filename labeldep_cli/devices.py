"""The device that is computed on, and what makes it repeat its numbers."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch

from labeldep_cli.errors import LabeldepError


def pick_device(name: str) -> torch.device:
    """Resolve `--device`.

    Args:
        name: auto (a GPU where there is one), cpu, cuda or cuda:N.

    Raises:
        LabeldepError: the device does not exist here.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
        raise LabeldepError(f"there is no device {name!r}", "Name auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and int(index or 0) >= count:
        raise LabeldepError(
            f"there is no device {name!r} here: {count} CUDA devices found", "Use --device cpu, or --device auto."
        )
    if count == 0 or kind == "cpu":
        return torch.device("cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda", int(index or 0))


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """bf16 for the convolutions on a GPU; nothing on a CPU."""
    return torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda")
