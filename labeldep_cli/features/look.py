"""What an image looks like, in 64 bits that survive another size, another compression and small changes of colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

_SIDE = 32
"""Pixels: the side at which the perceptual hash takes its cosine transform."""

_PLAIN = 2.0
"""Of 256 shades of grey: with a smaller deviation, an image is of one colour up to noise, and its hash says nothing."""


def look_of(grey: Image.Image) -> int | None:
    """The perceptual hash of an image: the signs of its 64 lowest frequencies, compared with their median.

    Args:
        grey: the image in shades of grey (mode L).

    Returns:
        64 bits; None for an image of one colour.
    """
    import imagehash  # with scipy, which only this command needs

    small = grey.resize((_SIDE, _SIDE), Image.Resampling.LANCZOS, reducing_gap=3.0)
    if float(np.asarray(small).std()) < _PLAIN:
        return None
    return int(str(imagehash.phash(small)), 16)
