"""What operators can do on Apple's GPUs (MPS), by torch's own list of kernels and by its issues."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchgen
from torch import Tensor
from torchgen.gen import parse_native_yaml
from torchgen.model import DispatchKey

_KINDS = (
    DispatchKey.MPS,
    DispatchKey.CompositeImplicitAutograd,
    DispatchKey.CompositeExplicitAutograd,
    DispatchKey.CompositeExplicitAutogradNonFunctional,
)

_CHOSEN_BY_THE_CPU = ("_scaled_dot_product_flash_attention_for_cpu",)
"""Operators that the simulation comes to since C++ takes its tensors for those of a CPU."""

_BACKWARD = {
    "convolution_backward": (1, 2),
    "native_batch_norm_backward": (1,),
    "avg_pool2d_backward": (1,),
    "_adaptive_avg_pool2d_backward": (1,),
    "hardswish_backward": (1,),
}
"""Backward passes that gave wrong gradients where these arguments lay channels last."""


@cache
def _with_kernel() -> frozenset[str]:
    """Names of the operators that run on MPS in this torch: native_functions.yaml, which the wheels contain."""
    folder = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native"
    parsed = parse_native_yaml(str(folder / "native_functions.yaml"), str(folder / "tags.yaml"))
    kinds = [parsed.backend_indices[kind] for kind in _KINDS if kind in parsed.backend_indices]
    own = {str(f.func.name) for f in parsed.native_functions if any(kind.has_kernel(f) for kind in kinds)}
    structured = {
        str(f.func.name) for f in parsed.native_functions if f.structured_delegate and str(f.structured_delegate) in own
    }
    return frozenset(own | structured)


def has_kernel(func: Any) -> bool:
    """Whether an operator runs on MPS."""
    name, overload = func._overloadpacket.__name__, func._overloadname
    if func.namespace != "aten" or name.startswith(_CHOSEN_BY_THE_CPU):
        return True
    return (name if overload == "default" else f"{name}.{overload}") in _with_kernel()


def lies_channels_last(operation: str, args: Sequence[object]) -> bool:
    """Whether an operator is a backward pass over maps [B, C, H, W] that lie channels last."""
    maps = [args[k] for k in _BACKWARD.get(operation, ())]
    return any(
        isinstance(one, Tensor)
        and one.dim() == 4
        and one.is_contiguous(memory_format=torch.channels_last)
        and not one.is_contiguous()
        for one in maps
    )
