"""Activation checkpointing: blocks of a backbone that keep their input alone, and compute the rest again going back.

Parameters, their names and the numbers stay what they were.
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
    """Have the blocks of a backbone compute their activations again in the backward pass, in place.

    A block is what repeats in torchvision's models: a residual, Inception or Fire module, a transformer layer. A long
    row of plain layers, as VGG's, is cut after its pooling layers; the few before a ResNet's blocks keep theirs. Not
    for batch norms in training: their statistics would be updated twice.

    Args:
        backbone: deep copies of it keep the property.
    """
    for block in _blocks(backbone, sum(parameter.numel() for parameter in backbone.parameters())):
        forward = _by_stages if len(_stages(block)) > 1 else _whole
        # A bound method: a deep copy of the module binds it to the copy.
        block.forward = MethodType(forward, block)


def _blocks(module: nn.Module, total: int) -> Iterator[nn.Module]:
    for child in module.children():
        parts = list(child.children())
        size = sum(parameter.numel() for parameter in child.parameters())
        if not parts or size == 0:
            continue
        nested = any(list(part.children()) for part in parts)
        # A module with most of the parameters is no block but what holds them, as a transformer's encoder does.
        if nested and (isinstance(child, nn.Sequential) or size > total / 2):
            yield from _blocks(child, total)
        else:
            yield child


def _stages(block: nn.Module) -> list[list[nn.Module]]:
    """The layers of a plain row, cut after each pooling layer; of anything else, none."""
    if type(block) is not nn.Sequential or any(list(layer.children()) for layer in block):
        return []
    stages: list[list[nn.Module]] = [[]]
    for layer in block:
        stages[-1].append(layer)
        if isinstance(layer, _POOLING):
            stages.append([])
    return [stage for stage in stages if stage]


def _whole(self: nn.Module, *inputs: Any) -> Any:  # noqa: ANN401 - whatever the block takes and gives
    """The block's own forward pass, checkpointed."""
    return _checkpointed(type(self).forward, self, *inputs)


def _by_stages(self: nn.Module, maps: Tensor) -> Tensor:
    """A row of layers, checkpointed stage by stage."""
    for stage in _stages(self):
        maps = _checkpointed(_run, stage, maps)
    return maps


def _checkpointed(function: Callable[..., Any], *inputs: Any) -> Any:  # noqa: ANN401 - what the function gives
    if not torch.is_grad_enabled():
        return function(*inputs)
    # A backbone in eval mode draws nothing: no state of a random generator need be kept.
    return checkpoint(_repeatably, function, *inputs, use_reentrant=False, preserve_rng_state=False)


def _repeatably(function: Callable[..., Any], *inputs: Any) -> Any:  # noqa: ANN401 - what the function gives
    """The function with attention as in the forward pass: going back, what surrounded that is left."""
    (maps, *_) = (one for one in inputs if isinstance(one, Tensor))
    with repeatable_attention(maps):
        return function(*inputs)


def _run(layers: list[nn.Module], maps: Tensor) -> Tensor:
    for layer in layers:
        maps = layer(maps)
    return maps
