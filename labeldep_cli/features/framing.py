"""Framing: how an image of any shape becomes the square that a backbone takes.

Resizing is Pillow's antialiased resizing, here and everywhere. That of torchvision on tensors differs enough to change
a probability by more than 0.04.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from labeldep_cli.config import Resize

if TYPE_CHECKING:  # a shell completes the backbones' names without Pillow
    from PIL import Image

SIDE = 224
"""Height and width in pixels of the paper's input images."""

RESIZED = 256
"""Height and width in pixels of the image that the paper's crops are cut from, for input images of `SIDE`."""

CROP_SHARE = SIDE / RESIZED
"""The share that `--resize crop` keeps of the shorter side, unless the backbone has its own: ImageNet's usual one."""

_MOST_ELONGATED = 8
"""An image longer than this multiple of its shorter side loses its ends before it is scaled for "crop".

What is lost is far from the centre. Without this, a strip of 1 x 10,000 pixels would become one of 3 GB.
"""

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
"""The names of Pillow's filters."""

_DONE: dict[Resize, str] = {"stretch": "stretched", "crop": "cropped", "pad": "padded"}

Colour = tuple[int, int, int]
"""Red, green and blue, each 0..255."""

WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Framing:
    """How an image becomes a square.

    Attributes:
        side: height and width of the square in pixels.
        resize: "stretch" scales both sides to the square; "crop" scales the shorter side and cuts the centre out; "pad"
            scales the longer side and adds bands.
        interpolation: the filter that scales.
        crop_share: the share of the scaled side that is kept around the centre, above 0 and at most 1.
    """

    side: int = SIDE
    resize: Resize = "stretch"
    interpolation: Interpolation = "bilinear"
    crop_share: float = 1.0

    def changed(self, image_size: int | None, resize: Resize | None) -> Framing:
        """The framing with another side, or another way to make a square; None keeps what it has.

        A new "crop" keeps `CROP_SHARE` of the shorter side. A new "stretch" or "pad" keeps the whole image.
        """
        if resize in (None, self.resize):
            return replace(self, side=image_size or self.side)
        share = CROP_SHARE if resize == "crop" else 1.0
        return Framing(image_size or self.side, resize or self.resize, self.interpolation, share)

    @property
    def scaled_side(self) -> int:
        """The length in pixels to which a side is scaled before the centre is cut out."""
        return math.floor(self.side / self.crop_share)

    @property
    def for_crops(self) -> Framing:
        """The framing of the larger square that the paper's crops are cut from.

        Its side is 256 pixels up to a side of 224, and 256/224 of the side above.
        """
        return replace(self, side=RESIZED if self.side <= SIDE else round(self.side * RESIZED / SIDE))

    @property
    def words(self) -> str:
        """The framing in words, a part of the identity of features: "pillow bilinear 224x224"."""
        text = f"pillow {self.interpolation} {self.side}x{self.side}"
        if self.resize != "stretch" or self.crop_share != 1:
            text += f" {_DONE[self.resize]}"
        if self.crop_share != 1:
            text += f" to {self.crop_share:g}"
        if self.side > SIDE:
            text += f" crops of {self.for_crops.side}"
        return text

    def steps(self, background: str) -> str:
        """What a user's own program does with an image for a network that it takes elsewhere, in words."""
        filter_, whole = f"({self.interpolation})", f"{self.side}x{self.side}"
        length = self.scaled_side
        cut = "" if length == self.side else f", {whole} cut out of the centre"
        if self.resize == "stretch":
            return f"resized to {length}x{length} {filter_}{cut}"
        if self.resize == "crop":
            return f"its shorter side resized to {length} {filter_}, {whole} cut out of the centre"
        return f"its longer side resized to {length} {filter_}, padded to {length}x{length} with {background}{cut}"

    def frame(self, image: Image.Image, background: Colour = WHITE) -> Image.Image:
        """Make a square of an RGB image.

        Sizes and positions are rounded as torchvision's transforms and those of timm do it, so that a network gets the
        pixels that it was trained on.

        Args:
            image: RGB, any size.
            background: the colour of bands.

        Returns:
            RGB, side x side.
        """
        from PIL import Image

        if self.resize == "crop":
            image = _without_ends(image)
        scaled = image.resize(self._scaled_size(*image.size), Image.Resampling[self.interpolation.upper()])
        if scaled.size == (self.side, self.side):
            return scaled
        if self.resize != "pad":
            left, top = (round((length - self.side) / 2) for length in scaled.size)
            return scaled.crop((left, top, left + self.side, top + self.side))
        square = Image.new("RGB", (self.side, self.side), background)
        square.paste(scaled, ((self.side - scaled.width) // 2, (self.side - scaled.height) // 2))
        return square

    def _scaled_size(self, width: int, height: int) -> tuple[int, int]:
        target = self.scaled_side
        if self.resize == "stretch":
            return target, target
        if self.resize == "pad":
            ratio = max(width, height) / target
            return max(round(width / ratio), 1), max(round(height / ratio), 1)
        if width <= height:
            return target, int(target * height / width)
        return int(target * width / height), target


PAPER_FRAMING = Framing()
"""The paper's: the whole image, scaled to 224 x 224."""


def _without_ends(image: Image.Image) -> Image.Image:
    """The middle of a very long image."""
    most = _MOST_ELONGATED * min(image.size)
    if max(image.size) <= most:
        return image
    width, height = (min(length, most) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
