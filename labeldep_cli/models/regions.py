"""The last feature map of a backbone: what heads that look at places see."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from labeldep_cli.errors import BackboneError
from labeldep_cli.models.backbones import Backbone

MOST = 7
"""Places along a side that are kept: a larger map (SqueezeNet's 13 x 13) is averaged down, or a cache of 100,000 images
would be too large to hold; ResNet's and VGG's own maps are 7 x 7 at 224 pixels."""


class RegionFeatures(nn.Module):
    """Normalised images [B, 3, side, side] -> regions [B, S, F], the places of the last feature map in reading order.

    The mean over regions is the pooled feature of the ResNets and of Inception-v3, and comes near SqueezeNet's; for
    VGG-16 it is the 512-d mean of the last map, not the 4096-d penultimate layer.

    Args:
        backbone: without its classifier, in eval mode.
        row: its name and the side of its images.

    Raises:
        BackboneError: there is no such map, as in vision transformers.
    """

    def __init__(self, backbone: nn.Module, row: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._seen: list[Tensor] = []
        layer = _last_map(backbone, row)
        backbone.get_submodule(layer).register_forward_hook(self._keep)
        with torch.inference_mode():
            _, places, width = self(_probe(backbone, row.side)).shape
        self.shape = (int(places), int(width))

    def _keep(self, _module: nn.Module, _inputs: tuple[Tensor, ...], maps: Tensor) -> None:
        self._seen.append(maps)

    def forward(self, images: Tensor) -> Tensor:
        """Regions [B, S, F]; what the backbone goes on to make of its last map is left, and costs next to nothing."""
        self._seen.clear()  # what a pass left that ended in an error
        self.backbone(images)
        maps = self._seen.pop()
        height, width = (min(side, MOST) for side in maps.shape[2:])
        regions: Tensor = adaptive_avg_pool2d(maps, (height, width)).flatten(2).transpose(1, 2)
        return regions


def _probe(backbone: nn.Module, side: int) -> Tensor:
    device = next(backbone.parameters()).device
    return torch.zeros(1, 3, side, side, device=device)


def _last_map(backbone: nn.Module, row: Backbone) -> str:
    """The name of the layer that gives the last map [B, F, H, W] of more than one place."""
    told: list[tuple[str, torch.Size]] = []

    def listener(name: str) -> Callable[..., None]:
        def listen(_module: nn.Module, _inputs: object, given: object) -> None:
            if isinstance(given, Tensor):
                told.append((name, given.shape))

        return listen

    hooks = [module.register_forward_hook(listener(name)) for name, module in backbone.named_modules() if name]
    try:
        with torch.inference_mode():
            backbone(_probe(backbone, row.side))
    finally:
        for hook in hooks:
            hook.remove()
    maps = [k for k, (_, shape) in enumerate(told) if len(shape) == 4 and shape[2] * shape[3] > 1]
    # A sequence of tokens after the last map is what the features are made of: the map is only where they began.
    if not maps or any(len(shape) == 3 for _, shape in told[maps[-1] :]):
        raise BackboneError(
            f"{row.name} has no last feature map, which --spatial keeps",
            "Take a convolutional backbone, or a head that needs no places: --head linear, cnn-rnn or gcn.",
        )
    return told[maps[-1]][0]
