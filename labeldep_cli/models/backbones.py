"""Backbones: classification networks without their classifier layer.

torch is not imported at the top, because shell completion reads the names of BACKBONES and must be fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeldep_cli.config import Jpegs
from labeldep_cli.errors import BackboneError, nearest
from labeldep_cli.features.jpegs import WORDS
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.views import SIDE

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channels = tuple[float, float, float]
"""One number for red, green and blue."""


@dataclass(frozen=True)
class WeightsFile:
    """The default weights of a backbone that torchvision does not have: a state dict of the network that `build` makes.

    Attributes:
        path: the file; None for a downloaded file, which is stored next to torchvision's downloads.
        url: where it is downloaded from; empty if the file is always on the disk.
        sha256: SHA-256 of the file, checked before use; None to accept any content.
    """

    path: Path | None = None
    url: str = ""
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse weights without a place.

        Raises:
            ValueError: there is neither a path nor a url.
        """
        if self.path is None and not self.url:
            raise ValueError("weights need a path or a url")


@dataclass(frozen=True)
class Backbone:
    """One row of BACKBONES.

    Attributes:
        name: as the user writes it; torchvision's name if `build` is None.
        feature_dim: F; None to take it from the classifier that is removed.
        side: height and width of the input images, in pixels.
        mean, std: those of RGB in 0..1, for the normalisation of images.
        build: builds the network with random weights: normalised images [B, 3, side, side] -> features [B, F], or class
            scores if it has a classifier. None for torchvision's builder.
        build_options: options of torchvision's builder.
        has_classifier: whether the last linear (or 1x1 convolutional) layer is a classifier. It is removed after the
            weights are loaded.
        weights: the weights of `--weights default`. None for torchvision's weights, or if a network with its own
            `build` has none.
    """

    name: str
    feature_dim: int | None = None
    side: int = SIDE
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    build: Callable[[], nn.Module] | None = None
    build_options: Mapping[str, Any] = field(default_factory=dict)
    has_classifier: bool = True
    weights: WeightsFile | None = None

    def __post_init__(self) -> None:
        """Refuse a row of unknown feature width.

        Raises:
            ValueError: there is neither a width nor a classifier to take it from.
        """
        if self.feature_dim is None and not self.has_classifier:
            raise ValueError(f"{self.name} has no classifier to take its feature width from: set feature_dim")

    def preprocessing(self, rules: PixelRules, jpegs: Jpegs = "full") -> str:
        """The preprocessing of images before the backbone, in words; part of every store's identity.

        Args:
            rules: how image files become 8-bit RGB.
            jpegs: how JPEGs are decoded.
        """
        text = f"pillow bilinear {self.side}x{self.side} {rules.words}, mean {self.mean}, std {self.std}"
        return f"{WORDS[jpegs]}{text}"


def _scenesnet() -> nn.Module:
    from labeldep_cli.models.scenesnet import ScenesNet

    return ScenesNet()


# torchvision's published weights of these two expect the input scaling of the original TensorFlow models.
_PORTED = {"transform_input": True, "aux_logits": True, "init_weights": False}

# Only matters for `--weights none`: with untrained batch norms, sums of many random residual blocks overflow 16 bits.
_RESIDUAL = {"zero_init_residual": True}

BACKBONES: Mapping[str, Backbone] = {
    row.name: row
    for row in (
        Backbone("vgg16", 4096, build_options={"init_weights": False}),  # the paper's four, Sect. 3.1
        Backbone("inception_v3", 2048, build_options=_PORTED),
        Backbone("resnet101", 2048, build_options=_RESIDUAL),
        Backbone("resnet152", 2048, build_options=_RESIDUAL),
        Backbone("googlenet", 1024, build_options=_PORTED),
        Backbone(
            "scenesnet",
            256,
            side=96,
            build=_scenesnet,
            has_classifier=False,
            weights=WeightsFile(Path(__file__).with_name("scenesnet.safetensors")),
        ),
    )
}


def find_backbone(name: str) -> Backbone:
    """The row of a backbone, or a default row for any other classification model of torchvision.

    Raises:
        BackboneError: there is no such model; suggests similar names.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise BackboneError(f"there is no backbone {name!r}", nearest(name, [*BACKBONES, *known]))
    return Backbone(name)


def classifier(row: Backbone) -> nn.Module:
    """The network as its row builds it, with random weights and with its classifier, if it has one."""
    if row.build is not None:
        return row.build()
    import torchvision

    network: nn.Module = torchvision.models.get_model(row.name, weights=None, **row.build_options)
    return network


def to_backbone(row: Backbone, network: nn.Module) -> int:
    """Turn a network into a backbone in place: its classifier is removed, if it has one.

    Returns:
        F.
    """
    return remove_classifier(network) if row.has_classifier or row.feature_dim is None else row.feature_dim


def architecture(row: Backbone) -> nn.Module:
    """The backbone without its classifier, with random weights: a checkpoint's weights are loaded into it."""
    network = classifier(row)
    to_backbone(row, network)
    return network


def remove_classifier(module: nn.Module) -> int:
    """Replace the last linear (or 1x1 convolutional) layer by the identity.

    So the output is that of the layer before: for VGG-16 the 4096-d penultimate layer, for the ResNets and Inception-v3
    the pooled 2048-d layer (Sect. 4.1 removes "the output layer"), for SqueezeNet the pooled 512 channels.

    Returns:
        F, the input width of the removed layer.
    """
    from torch import nn

    path, layer = [entry for entry in module.named_modules() if isinstance(entry[1], nn.Linear | nn.Conv2d)][-1]
    parent, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
