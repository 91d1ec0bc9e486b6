"""Choice of the device, and the settings that make its results reproducible."""

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
        name: auto (a CUDA GPU if there is one), cpu, cuda, cuda:N, or mps for Apple's GPU. If several processes run on
            a machine (torchrun, SLURM), auto and cuda give each process its own GPU, whether all GPUs are visible to
            the process or only its own. `join` raises an error if two processes would share a GPU.

    Raises:
        LabeldepError: the device does not exist on this machine.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and index.isdigit())):
        raise LabeldepError(f"there is no device {name!r}", "Name auto, cpu, cuda, cuda:N or mps.")
    if kind == "mps":
        return _apple_gpu()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    index = index or str(local_rank() % max(count, 1))
    if kind == "cuda" and int(index) >= count:
        raise LabeldepError(
            f"there is no device {name!r} here: {count} CUDA devices found", "Use --device cpu, or --device auto."
        )
    return torch.device("cpu") if count == 0 or kind == "cpu" else torch.device("cuda", int(index))


def _apple_gpu() -> torch.device:
    """The GPU of a Mac (Metal Performance Shaders).

    Raises:
        LabeldepError: there is none, or this torch cannot use it.
    """
    if torch.backends.mps.is_available():
        return torch.device("mps", 0)
    why = "torch finds no GPU of Apple" if torch.backends.mps.is_built() else "this torch is built without it"
    raise LabeldepError(f"there is no device 'mps' here: {why}", "Use --device cpu, or --device auto.")


def set_up_device(device: torch.device) -> None:
    """Make torch's results on a device reproducible, and make it the current device. For commands only.

    `labeldep_cli.load` does not call this: in a user's own Python process these global settings belong to the user.

    Args:
        device: the device to compute on. Nothing changes for a CPU, whose results are reproducible anyway, nor for
            Apple's GPU, for which torch has no such settings.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Otherwise an extra kernel first fills every new tensor with NaN.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    make_convolutions_exact()  # matters for evaluation in float32; training computes in bf16
    torch.cuda.set_device(device)  # otherwise pinned memory would use memory of the first GPU


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bf16 on a GPU that supports it; no autocast elsewhere.

    GPUs before compute capability 8.0 only emulate bf16, more slowly than they compute in float32. And gradients in
    fp16 would have to be scaled.
    """
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.autocast("cuda", torch.bfloat16, enabled=has_bf16)
