"""The device that is computed on, and what makes it repeat its numbers."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager

import torch

from labeldep_cli.compute.distributed import local_rank
from labeldep_cli.compute.kernels import make_convolutions_exact
from labeldep_cli.errors import LabeldepError


def pick_device(name: str) -> torch.device:
    """Resolve `--device`.

    Args:
        name: auto (a GPU where there is one), cpu, cuda or cuda:N. Of several processes on a machine (torchrun, SLURM)
            auto and cuda give each one its own GPU, whether it sees all of them or only that one; `join` finds out if
            two processes would share one all the same.

    Raises:
        LabeldepError: the device does not exist here.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (":" in name and not (kind == "cuda" and index.isdigit())):
        raise LabeldepError(f"there is no device {name!r}", "Name auto, cpu, cuda or cuda:N.")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = index or str(local_rank() % max(count, 1))
    if kind == "cuda" and int(index) >= count:
        raise LabeldepError(
            f"there is no device {name!r} here: {count} CUDA devices found", "Use --device cpu, or --device auto."
        )
    return torch.device("cpu") if count == 0 or kind == "cpu" else torch.device("cuda", int(index))


def settle_on(device: torch.device) -> None:
    """Have torch repeat its numbers on a device, and make it the process's own: for commands.

    Not for `labeldep_cli.load`: in a process of the user's these settings are the user's.

    Args:
        device: to compute on; nothing is to be done for a CPU, which repeats its numbers anyway.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Or every new tensor is filled with NaN first, by a kernel of its own.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    make_convolutions_exact()  # what evaluates in float32; training computes in bf16
    torch.cuda.set_device(device)  # or pinned memory would take some of the first GPU's


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """bf16 for the convolutions on a GPU that computes in it; nothing elsewhere.

    GPUs before compute capability 8.0 only imitate bf16, slower than they compute in float32; and gradients in fp16
    would have to be scaled.
    """
    has_it = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.autocast("cuda", torch.bfloat16, enabled=has_it)
