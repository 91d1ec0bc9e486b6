"""Backbones: classification networks without their classifier layer.

torch is not imported at the top, because shell completion reads the names of BACKBONES and must be fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from labeldep_cli.config import Jpegs, Resize, Source
from labeldep_cli.errors import BackboneError, nearest
from labeldep_cli.features.framing import PAPER_FRAMING, Framing
from labeldep_cli.features.jpegs import WORDS, jpegs_of
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.files import plain_name
from labeldep_cli.models import hub, timm_models
from labeldep_cli.models.timm_models import TimmModel

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
    """One row of BACKBONES, or a model of torchvision or timm by its name.

    Attributes:
        name: as the user writes it; torchvision's name if neither `build` nor `timm` is set.
        feature_dim: F; None to take it from the classifier that is removed.
        framing: how an image becomes the square that the network takes.
        mean, std: those of RGB in 0..1, for the normalisation of images.
        build: builds the network with random weights: normalised images [B, 3, side, side] -> features [B, F], or class
            scores if it has a classifier. None for torchvision's builder.
        build_options: options of torchvision's builder.
        has_classifier: whether the last linear (or 1x1 convolutional) layer is a classifier. It is removed after the
            weights are loaded.
        weights: the weights of `--weights default`. None for torchvision's weights, or if a network with its own
            `build` has none.
        timm: the model of timm that it is; None for others.
    """

    name: str
    feature_dim: int | None = None
    framing: Framing = PAPER_FRAMING
    mean: Channels = IMAGENET_MEAN
    std: Channels = IMAGENET_STD
    build: Callable[[], nn.Module] | None = None
    build_options: Mapping[str, Any] = field(default_factory=dict)
    has_classifier: bool = True
    weights: WeightsFile | None = None
    timm: TimmModel | None = None

    def __post_init__(self) -> None:
        """Refuse a row of unknown feature width.

        Raises:
            ValueError: there is neither a width nor a classifier to take it from.
        """
        if self.feature_dim is None and not self.has_classifier:
            raise ValueError(f"{self.name} has no classifier to take its feature width from: set feature_dim")

    @property
    def side(self) -> int:
        """Height and width of the input images, in pixels."""
        return self.framing.side

    @property
    def from_torchvision(self) -> bool:
        """Whether torchvision builds it and publishes its weights."""
        return self.build is None and self.timm is None

    def framed(self, image_size: int | None, resize: Resize | None) -> Backbone:
        """The same backbone for images of another size, or that become squares in another way; None changes nothing."""
        return replace(self, framing=self.framing.changed(image_size, resize))

    def run_name(self, source: Source) -> str:
        """BACKBONE[-SIZEpx][-RESIZE], the part of a run's name that tells it from other backbones and framings."""
        size = f"-{source.image_size}px" if source.image_size else ""
        return f"{plain_name(self.name)}{size}{f'-{source.resize}' if source.resize else ''}"

    def preprocessing(self, rules: PixelRules, jpegs: Jpegs = "full") -> str:
        """The preprocessing of images before the backbone, in words; part of every store's identity.

        Args:
            rules: how image files become 8-bit RGB.
            jpegs: how JPEGs are decoded.
        """
        return f"{WORDS[jpegs]}{self.framing.words} {rules.words}, mean {self.mean}, std {self.std}"


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
            framing=Framing(96),
            build=_scenesnet,
            has_classifier=False,
            weights=WeightsFile(Path(__file__).with_name("scenesnet.safetensors")),
        ),
    )
}


def frame_of(row: Backbone, preprocessing: str) -> tuple[int | None, Resize | None] | None:
    """The image size and the resizing with which a backbone has a preprocessing; None for what it has by itself.

    Args:
        row: as `find_backbone` gives it.
        preprocessing: as `Backbone.preprocessing` gives it.

    Returns:
        Both; None if no size and no resizing gives this preprocessing.
    """
    size = re.search(r"(\d+)x\1 ", preprocessing)
    for image_size in (None, int(size[1]) if size else None):
        for resize in (None, *get_args(Resize)):
            words = row.framed(image_size, resize).framing.words
            if preprocessing.removeprefix(WORDS[jpegs_of(preprocessing)]).startswith(f"{words} on "):
                return image_size, resize
    return None


def find_backbone(name: str, weights: str | None = None) -> Backbone:
    """The row of a backbone, or a default row for any other classification model of torchvision, or for one of timm.

    Args:
        name: a name in BACKBONES, torchvision's name, timm:NAME, or hf-hub:OWNER/NAME.
        weights: as for `--weights`. A folder of the hub says which model it has the weights of.

    Raises:
        BackboneError: there is no such model; suggests similar names. Or timm is not installed.
    """
    if name in BACKBONES:
        return BACKBONES[name]
    if name.startswith((timm_models.BY_NAME, hub.PREFIX)):
        return _of_timm(name, timm_models.find(name, weights))
    import torchvision

    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise BackboneError(
            f"there is no backbone {name!r}",
            f"{nearest(name, [*BACKBONES, *known])}\nThose of timm begin with {timm_models.BY_NAME}; "
            "see: labeldep backbones",
        )
    return Backbone(name)


def backbone_of(source: Source, default: str, recorded: Mapping[str, Any] | None = None) -> Backbone:
    """The backbone of a source, for images as the source wants them.

    Args:
        source: names the backbone, its weights, and how images are framed.
        default: the backbone if the source names none.
        recorded: `TimmModel.to_json` of a run, so that neither timm's tables nor the hub are asked again.

    Raises:
        BackboneError: as `find_backbone`.
    """
    name = source.backbone or default
    row = find_backbone(name, source.weights) if recorded is None else _of_timm(name, TimmModel(**recorded))
    return row.framed(source.image_size, source.resize)


def _of_timm(name: str, model: TimmModel) -> Backbone:
    mean, std = model.channels
    return Backbone(name, framing=model.framing, mean=mean, std=std, timm=model)


_SIZED: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda side: {"image_size": side},
    "maxvit_": lambda side: {"input_size": (side, side)},
}
"""Options of torchvision's builders of networks that are built for one image size, by the beginning of their names."""


def classifier(row: Backbone) -> nn.Module:
    """The network as its row builds it, with random weights and with its classifier, if it has one.

    Raises:
        BackboneError: it cannot be built for images of the row's size.
    """
    if row.build is not None:
        return row.build()
    try:
        if row.timm is not None:
            return row.timm.build(row.side)
        import torchvision

        sized = [options(row.side) for beginning, options in _SIZED.items() if row.name.startswith(beginning)]
        network: nn.Module = torchvision.models.get_model(
            row.name, weights=None, **{**row.build_options, **(sized[0] if sized else {})}
        )
        return network
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise unsuitable_size(row, error) from error


def unsuitable_size(row: Backbone, error: Exception) -> BackboneError:
    """The error for a network that cannot take images of its row's size."""
    why = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return BackboneError(
        f"{row.name} cannot take images of {row.side} x {row.side} pixels: {why[:160]}",
        "Choose another --image-size, often a multiple of 32 or of the size of a patch, or leave it out.",
    )


def to_backbone(row: Backbone, network: nn.Module) -> int:
    """Turn a network into a backbone in place: its classifier is removed, if it has one.

    Returns:
        F.
    """
    if row.timm is not None:
        return timm_models.remove_classifier(network)
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
