"""A GPU's lack of memory, told with what the command at hand can do about it. Without torch."""

from __future__ import annotations

import re
import sys
from typing import Any

from labeldep_cli.errors import LabeldepError

_LACK = re.compile(
    r"(CUDA|HIP)( error:)? out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED|Cuda failure 2|CUDA_ERROR_OUT_OF_MEMORY"
)
"""What torch's allocator, the driver, cuBLAS, cuDNN and NCCL say; only the first has an exception of its own."""

_LESS = (
    ("--batch-size", "a smaller --batch-size"),
    ("--accumulate", "--accumulate 4"),
    ("--checkpoint-activations", "--checkpoint-activations (with --full)"),
    ("--max-memory", "--max-memory 2GB (cached features beyond it are streamed)"),
)
_ELSEWHERE = "another GPU (--device cuda:N), or the CPU (--device cpu)"


def lack_of_memory(error: RuntimeError, command: Any) -> LabeldepError | None:  # noqa: ANN401 - click's, by typer
    """The error for a user, if a GPU's memory ran out.

    Args:
        error: what ended the command.
        command: click's, whose flags the remedy names.

    Returns:
        None where it is something else, a bug.
    """
    torch = sys.modules.get("torch")
    if not (_LACK.search(str(error)) or (torch is not None and isinstance(error, torch.OutOfMemoryError))):
        return None
    lines = str(error).splitlines() or [type(error).__name__]
    told = next((line for line in lines if _LACK.search(line)), lines[0])
    flags = {flag for parameter in command.params for flag in parameter.opts}
    less = [words for flag, words in _LESS if flag in flags]
    remedies = ["End what else runs on that GPU (nvidia-smi lists it)"]
    if less:
        remedies.append(f"take less of it: {', '.join(less)}")
    if "--device" in flags:
        remedies.append(f"take {_ELSEWHERE}")
    return LabeldepError(f"the GPU has too little memory: {told.strip()}", "; or\n".join(remedies) + ".")
