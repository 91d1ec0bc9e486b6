"""Activation checkpointing: the blocks of a backbone keep only their inputs and recompute activations in backward.

Parameters, their names and all numbers stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from labeldep_cli.compute.kernels import repeatable_attention

_POOLING = (nn.MaxPool2d, nn.AvgPool2d)


def checkpoint_blocks(backbone: nn.Module) -> None:
    """Make the blocks of a backbone compute their activations again in the backward pass, in place.

    A block is the repeated unit of torchvision's models: a residual, Inception or Fire module, a transformer layer. A
    long sequence of plain layers, as in VGG, is cut after its pooling layers. The few layers before a ResNet's blocks
    keep their activations. Batch norms must not be in training mode: their statistics would be updated twice.

    Args:
        backbone: changed in place; deep copies of it are checkpointed too.
    """
    for block in _blocks(backbone, sum(parameter.numel() for parameter in backbone.parameters())):
        forward = _by_stages if len(_stages(block)) > 1 else _at_once
        # A bound method: a deep copy of the module binds it to the copy.
        block.forward = MethodType(forward, block)


def _blocks(module: nn.Module, total: int) -> Iterator[nn.Module]:
    for child in module.children():
        parts = list(child.children())
        size = sum(parameter.numel() for parameter in child.parameters())
        if not parts or size == 0:
            continue
        nested = any(list(part.children()) for part in parts)
        # A module with most of the parameters is not a block but contains them, like a transformer's encoder.
        if nested and (isinstance(child, nn.Sequential) or size > total / 2):
            yield from _blocks(child, total)
        else:
            yield child


def _stages(block: nn.Module) -> list[list[nn.Module]]:
    """The layers of a plain sequence, cut after each pooling layer; an empty list for any other block."""
    if type(block) is not nn.Sequential or any(list(layer.children()) for layer in block):
        return []
    stages: list[list[nn.Module]] = [[]]
    for layer in block:
        stages[-1].append(layer)
        if isinstance(layer, _POOLING):
            stages.append([])
    return [stage for stage in stages if stage]


def _at_once(self: nn.Module, *inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - the block decides
    """The block's forward pass, checkpointed as a unit."""
    return _checkpointed(type(self).forward, self, *inputs, **named)


def _by_stages(self: nn.Module, maps: Tensor) -> Tensor:
    """The forward pass of a sequence of layers, checkpointed stage by stage."""
    for stage in _stages(self):
        maps = _checkpointed(_run, stage, maps)
    return maps


def _checkpointed(function: Callable[..., Any], *inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
    if not torch.is_grad_enabled():
        return function(*inputs, **named)
    # A backbone in eval mode draws no random numbers, so the state of the generator is not saved.
    return checkpoint(_repeatably, function, *inputs, use_reentrant=False, preserve_rng_state=False, **named)


def _repeatably(function: Callable[..., Any], *inputs: Any, **named: Any) -> Any:  # noqa: ANN401 - as above
    """Call the function with repeatable attention. In the backward pass the caller's context no longer applies."""
    (maps, *_) = (value for value in inputs if isinstance(value, Tensor))
    with repeatable_attention(maps):
        return function(*inputs, **named)


def _run(layers: list[nn.Module], maps: Tensor) -> Tensor:
    for layer in layers:
        maps = layer(maps)
    return maps
