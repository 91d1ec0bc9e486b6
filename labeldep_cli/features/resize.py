"""Pillow's bilinear resize as two matrix products of a tensor, with the same bits.

Pillow's antialiased resize (`ImagingResample` in its Resample.c) is separable. Each output row or column is a weighted
sum of input ones, with weights that are rounded to multiples of 2^-22. One pass changes the width, another the height,
and each rounds to 8 bits, so their order shows in the last bit. A pass that would not change its side is left out.

Here a pass is a product with the matrix of the integer weights. The sums are below 2^31, so that float64 holds them
exactly, whatever the order of summation. There is no product of integer matrices on GPUs.
"""

from __future__ import annotations

from functools import lru_cache

import PIL
import torch
from torch import Tensor

_BITS = 22  # 32 bits of a C int, less 8 of a pixel and 2 in reserve

_HEIGHT_MAY_BE_FIRST = int(PIL.__version__.split(".")[0]) >= 13
"""Until version 12, the width was always resized first."""


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """Resize an image as `PIL.Image.resize((width, height), BILINEAR)` does.

    Args:
        image: uint8 [C, H, W], on any device that has float64.
        height, width: of the result, in pixels.

    Returns:
        uint8 [C, height, width], on the same device.
    """
    if height_first(image.shape[1] - height, image.shape[2] - width):
        return _to_width(_to_height(image, height), width)
    return _to_height(_to_width(image, width), height)


def height_first(rows: int, columns: int) -> bool:
    """Whether Pillow resizes the height before the width.

    Args:
        rows, columns: how many of them the result has less.
    """
    return _HEIGHT_MAY_BE_FIRST and rows > 0 and rows > 2 * columns


def _to_width(image: Tensor, width: int) -> Tensor:
    if image.shape[2] == width:
        return image
    return _rounded(image.double() @ _on(image.device, image.shape[2], width).T)


def _to_height(image: Tensor, height: int) -> Tensor:
    if image.shape[1] == height:
        return image
    return _rounded(_on(image.device, image.shape[1], height) @ image.double())


def _rounded(sums: Tensor) -> Tensor:
    """Sums of pixels times integer weights -> pixels: half a unit is added, and the 22 bits are shifted out."""
    pixels: Tensor = ((sums + 2 ** (_BITS - 1)) / 2**_BITS).floor()
    return pixels.clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=64)
def _on(device: torch.device, n_in: int, n_out: int) -> Tensor:
    """`weights` on a device; photos of a data set share few sizes."""
    return weights(n_in, n_out).to(device)


def weights(n_in: int, n_out: int) -> Tensor:
    """The integer weights of a pass, float64 [n_out, n_in]: `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow.

    Args:
        n_in, n_out: pixels of a side before and after.
    """
    scale = n_in / n_out
    support = max(scale, 1.0)  # of the triangle on either side; a side that grows is interpolated
    centre = (torch.arange(n_out, dtype=torch.float64) + 0.5) * scale
    first = (centre - support + 0.5).trunc().clamp(min=0)
    last = (centre + support + 0.5).trunc().clamp(max=n_in)
    pixel = torch.arange(n_in, dtype=torch.float64)
    # In the order in which Pillow rounds: (pixel - centre + 0.5) / support, with pixel counted from `first`.
    distance = ((pixel - centre[:, None]) + 0.5) * (1.0 / support)
    triangle = (1 - distance.abs()).clamp(min=0)
    triangle *= (pixel >= first[:, None]) & (pixel < last[:, None])
    rounded: Tensor = (triangle / triangle.sum(dim=1, keepdim=True) * 2**_BITS + 0.5).floor()
    return rounded
