"""Backbones: classifiers without their classifier.

No import of torch at the top: a shell completes the names of BACKBONES, and wants them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeldep_cli.errors import BackboneError, nearest
from labeldep_cli.features.views import SIDE

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Channels = tuple[float, float, float]
"""One number for red, green and blue."""


@dataclass(frozen=True)
class WeightsFile:
    """The default weights of a backbone that torchvision does not have: a state dict of what its row builds.

    Attributes:
        path: the file; None for one that is downloaded, which lies where torchvision's do.
        url: where it is downloaded from; empty where the file is always there.
        sha256: of the file, checked before use; None where any content will do.
    """

    path: Path | None = None
    url: str = ""
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse a row of which nobody could say where its weights lie.

        Raises:
            ValueError: neither path nor url.
        """
        if self.path is None and not self.url:
            raise ValueError("weights need a path or a url")


@dataclass(frozen=True)
class Backbone:
    """One row of BACKBONES.

    Attributes:
        name: as the user writes it; torchvision's own where `build` is None.
        feature_dim: F; None where it is read off the classifier that is taken off.
        side: height and width in pixels of the images it sees.
        mean, std: of RGB in 0..1; an image is normalised with them.
        build: makes the network, with weights drawn by chance: normalised images [B, 3, side, side] -> features [B, F],
            or class scores where it has a classifier. None for torchvision's builder.
        build_options: for torchvision's builder.
        has_classifier: the last linear (or 1x1 convolutional) layer is a classifier, and is taken off once the weights
            are loaded.
        weights: what `--weights default` loads; None for torchvision's, or where a network of its own has none.
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
        """Refuse a row whose width nobody could say.

        Raises:
            ValueError: neither a width nor a classifier to read it off.
        """
        if self.feature_dim is None and not self.has_classifier:
            raise ValueError(f"{self.name} has no classifier to read its width off: give feature_dim")

    @property
    def preprocessing(self) -> str:
        """What happens to an image before the backbone: part of every store's identity."""
        return f"pillow bilinear {self.side}x{self.side}, mean {self.mean}, std {self.std}"

    @property
    def drafted(self) -> str:
        """The same with JPEGs decoded at reduced scale."""
        return f"JPEG at reduced scale, {self.preprocessing}"


def _scenesnet() -> nn.Module:
    from labeldep_cli.models.scenesnet import ScenesNet

    return ScenesNet()


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
    """The row of a backbone, or one made up for any other classification model of torchvision.

    Raises:
        BackboneError: no such model; names the near ones.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise BackboneError(f"there is no backbone {name!r}", nearest(name, [*BACKBONES, *known]))
    return Backbone(name)


def classifier(row: Backbone) -> nn.Module:
    """The network as its row builds it, an output layer still on, with weights drawn by chance."""
    if row.build is not None:
        return row.build()
    import torchvision

    network: nn.Module = torchvision.models.get_model(row.name, weights=None, **row.build_options)
    return network


def take_off_classifier(row: Backbone, network: nn.Module) -> int:
    """Make a backbone of a classifier, in place; a network that has none stays as it is.

    Returns:
        F.
    """
    return remove_classifier(network) if row.has_classifier or row.feature_dim is None else row.feature_dim


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
    from torch import nn

    path, layer = [found for found in module.named_modules() if isinstance(found[1], nn.Linear | nn.Conv2d)][-1]
    parent, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    return int(layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
