"""Backbones: classifiers without their classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torchvision
from torch import nn

from labeldep_cli.errors import BackboneError, nearest
from labeldep_cli.features.views import SIDE
from labeldep_cli.models.scenesnet import FEATURE_DIM, INPUT_SIDE, ScenesNet

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Backbone:
    """One row of BACKBONES.

    Attributes:
        name: as the user writes it, torchvision's own.
        feature_dim: F; None where it is read off the classifier that is taken off.
        side: height and width in pixels of the images it sees.
        build_options: for torchvision's builder.
        packaged: file of its weights inside this package; None for torchvision's.
    """

    name: str
    feature_dim: int | None = None
    side: int = SIDE
    build_options: Mapping[str, Any] = field(default_factory=dict)
    packaged: str | None = None

    @property
    def preprocessing(self) -> str:
        """What happens to an image before the backbone: part of every cache's origin."""
        return f"pillow bilinear {self.side}x{self.side}, mean {IMAGENET_MEAN}, std {IMAGENET_STD}"

    @property
    def drafted(self) -> str:
        """The same with JPEGs decoded at reduced scale."""
        return f"JPEG at reduced scale, {self.preprocessing}"


# torchvision's published weights of these two expect the input scaling of the original TensorFlow models.
_PORTED = {"transform_input": True, "aux_logits": True, "init_weights": False}

# Only `--weights none` sees this: under untrained batch norms the sums of many random residual blocks leave 16 bits.
_RESIDUAL = {"zero_init_residual": True}

BACKBONES: Mapping[str, Backbone] = {
    row.name: row
    for row in (
        Backbone("vgg16", 4096, build_options={"init_weights": False}),  # the paper's four, Sect. 3.1
        Backbone("inception_v3", 2048, build_options=_PORTED),
        Backbone("resnet101", 2048, build_options=_RESIDUAL),
        Backbone("resnet152", 2048, build_options=_RESIDUAL),
        Backbone("googlenet", 1024, build_options=_PORTED),
        Backbone("scenesnet", FEATURE_DIM, side=INPUT_SIDE, packaged="scenesnet.safetensors"),
    )
}


def find_backbone(name: str) -> Backbone:
    """The row of a backbone, or one made up for any other classification model of torchvision.

    Raises:
        BackboneError: no such model; names the near ones.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise BackboneError(f"there is no backbone {name!r}", nearest(name, [*BACKBONES, *known]))
    return Backbone(name)


def classifier(row: Backbone) -> nn.Module:
    """The whole network, its output layer still on, with torch's initial weights."""
    if row.packaged:
        return ScenesNet()
    network: nn.Module = torchvision.models.get_model(row.name, weights=None, **row.build_options)
    return network


def take_off_classifier(row: Backbone, network: nn.Module) -> int:
    """Make a backbone of a whole network, in place; `scenesnet` is one already.

    Returns:
        F.
    """
    return FEATURE_DIM if row.packaged else remove_classifier(network)


def architecture(row: Backbone) -> nn.Module:
    """The backbone without weights or classifier, to load a checkpoint's own weights into."""
    network = classifier(row)
    take_off_classifier(row, network)
    return network


def remove_classifier(module: nn.Module) -> int:
    """Replace the last linear (or 1x1 convolutional) layer by the identity.

    What comes before it stays: for VGG-16 the 4096-d penultimate layer, for the ResNets and Inception-v3 the pooled
    2048-d one (Sect. 4.1 removes "the output layer"), for SqueezeNet the pooled 512 channels.

    Returns:
        F, the width of what that layer took in.
    """
    path, layer = [found for found in module.named_modules() if isinstance(found[1], nn.Linear | nn.Conv2d)][-1]
    parent, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
