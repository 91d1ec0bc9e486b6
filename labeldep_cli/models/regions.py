"""The last feature map of a backbone, the input of spatial heads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from labeldep_cli.errors import BackboneError
from labeldep_cli.models.backbones import Backbone

MAX_SIDE = 7
"""The largest side of the stored map. A larger map (SqueezeNet's 13 x 13) is averaged down, since the features of
100,000 images would be too large. The maps of ResNet and VGG are 7 x 7 at 224 pixels."""


class RegionFeatures(nn.Module):
    """Normalised images [B, 3, side, side] -> regions [B, S, F], the positions of the last feature map, row by row.

    For a transformer of timm the map is that of its last tokens.

    The mean over regions is the pooled feature of the ResNets and of Inception-v3, and close to that of SqueezeNet. For
    VGG-16 it is the 512-d mean of the last map, not the 4096-d penultimate layer.

    Args:
        backbone: without its classifier, in eval mode.
        row: the backbone's name and the side of its images.

    Raises:
        BackboneError: the backbone has no last feature map, for example a vision transformer of torchvision.
    """

    def __init__(self, backbone: nn.Module, row: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._maps: list[Tensor] = []
        self._of_timm = row.timm is not None
        if row.timm is None:
            layer = _last_map(backbone, row)
            backbone.get_submodule(layer).register_forward_hook(self._keep)
        with torch.inference_mode():
            try:
                _, regions, width = self(_probe(backbone, row.side)).shape
            except _NoMap:
                raise _no_last_map(row) from None
        self.shape = (int(regions), int(width))

    def _keep(self, _module: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> None:
        self._maps.append(maps)

    def forward(self, images: Tensor) -> Tensor:
        """Regions [B, S, F]. The layers after the last map run too; their output is dropped, and they cost little."""
        maps = _map_of_timm(self.backbone, images) if self._of_timm else self._hooked(images)
        height, width = (min(side, MAX_SIDE) for side in maps.shape[2:])
        regions: Tensor = adaptive_avg_pool2d(maps, (height, width)).flatten(2).transpose(1, 2)
        return regions

    def _hooked(self, images: Tensor) -> Tensor:
        self._maps.clear()  # a pass that ended in an error may have left a map
        self.backbone(images)
        return self._maps.pop()


class _NoMap(Exception):
    """A network of timm has no map, or its tokens lie on no square grid."""


def _map_of_timm(backbone: nn.Module, images: Tensor) -> Tensor:
    """The last map [B, F, H, W] of a network of timm; tokens are laid out as a map, without the prefix tokens."""
    model = cast(Any, backbone)
    features = model.forward_features(images)
    if not isinstance(features, Tensor) or features.dim() not in (3, 4):
        raise _NoMap
    if features.dim() == 3:
        tokens = features[:, getattr(model, "num_prefix_tokens", 0) :]
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise _NoMap
        maps = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)
    else:
        maps = features.permute(0, 3, 1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features
    if maps.shape[2] * maps.shape[3] == 1:
        raise _NoMap
    return maps


def _probe(backbone: nn.Module, side: int) -> Tensor:
    device = next(backbone.parameters()).device
    return torch.zeros(1, 3, side, side, device=device)


def _last_map(backbone: nn.Module, row: Backbone) -> str:
    """The name of the layer that gives the last map [B, F, H, W] with more than one position."""
    outputs: list[tuple[str, torch.Size]] = []

    def recorder(name: str) -> Callable[..., None]:
        def record(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                outputs.append((name, output.shape))

        return record

    hooks = [module.register_forward_hook(recorder(name)) for name, module in backbone.named_modules() if name]
    try:
        with torch.inference_mode():
            backbone(_probe(backbone, row.side))
    finally:
        for hook in hooks:
            hook.remove()
    maps = [k for k, (_, shape) in enumerate(outputs) if len(shape) == 4 and shape[2] * shape[3] > 1]
    # A sequence of tokens after the last map means that the features come from the tokens, not from the map.
    if not maps or any(len(shape) == 3 for _, shape in outputs[maps[-1] :]):
        raise _no_last_map(row)
    return outputs[maps[-1]][0]


def _no_last_map(row: Backbone) -> BackboneError:
    return BackboneError(
        f"{row.name} has no last feature map, which --spatial needs",
        "Use a convolutional backbone, or a head that needs no regions: --head linear, cnn-rnn or gcn.",
    )
