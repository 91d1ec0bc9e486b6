"""Turns a GPU's out-of-memory error into a message with the flags of this command that help. Imports no torch."""

from __future__ import annotations

import re
import sys
from typing import Any

from labeldep_cli.errors import LabeldepError

_OUT_OF_MEMORY = re.compile(
    r"(CUDA|HIP)( error:)? out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|Cuda failure 2|CUDA_ERROR_OUT_OF_MEMORY"
    r"|MPS backend out of memory"
)
"""Messages of torch's allocator, the driver, cuBLAS, cuDNN and NCCL, and of Apple's GPUs; only the first has its own
exception class."""

_SAVINGS = (
    ("--batch-size", "a smaller --batch-size"),
    ("--accumulate", "--accumulate 4"),
    ("--checkpoint-activations", "--checkpoint-activations (with --full)"),
    ("--max-memory", "--max-memory 2GB (cached features beyond it are streamed)"),
)
_CPU = "the CPU (--device cpu)"
_OTHER_DEVICE = f"another GPU (--device cuda:N), or {_CPU}"


def out_of_gpu_memory(error: RuntimeError, command: Any) -> LabeldepError | None:  # noqa: ANN401 - click's, by typer
    """The error for a user, if a GPU's memory ran out.

    Args:
        error: the exception that ended the command.
        command: click's command; the remedy names those of its flags that save memory.

    Returns:
        None if the exception has another cause.
    """
    torch = sys.modules.get("torch")
    if not (_OUT_OF_MEMORY.search(str(error)) or (torch is not None and isinstance(error, torch.OutOfMemoryError))):
        return None
    lines = str(error).splitlines() or [type(error).__name__]
    message = next((line for line in lines if _OUT_OF_MEMORY.search(line)), lines[0])
    flags = {flag for parameter in command.params for flag in parameter.opts}
    savings = [words for flag, words in _SAVINGS if flag in flags]
    on_mac = "MPS" in message
    remedies = ["Close other programs" if on_mac else "End other programs on that GPU (nvidia-smi lists them)"]
    if savings:
        remedies.append(f"use less memory: {', '.join(savings)}")
    if "--device" in flags:
        remedies.append(f"use {_CPU if on_mac else _OTHER_DEVICE}")
    return LabeldepError(f"the GPU has too little memory: {message.strip()}", "; or\n".join(remedies) + ".")
