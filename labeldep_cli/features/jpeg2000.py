"""How many bits the pixels of a JPEG 2000 have, which Pillow does not tell."""

from __future__ import annotations

import struct
from typing import NamedTuple

from PIL import Image

_SIZE = b"\xff\x4f\xff\x51"
"""The markers that a codestream begins with: start, and the image's size."""

_BITS_AT = 42
"""Place of the first component's bits, from these markers on (ISO 15444-1, A.5.1)."""


class Precision(NamedTuple):
    """The numbers of a JPEG 2000's first component: how many bits they have, and whether they have a sign."""

    bits: int = 8
    signed: bool = False


def precision_of(image: Image.Image) -> Precision:
    """The precision of an opened JPEG 2000; 16 bits for a grey one that is decoded already.

    Raises:
        struct.error: the file is damaged.
    """
    stream = getattr(image, "fp", None)
    if stream is None:
        return Precision(16 if image.mode == "I;16" else 8)
    place = stream.tell()
    stream.seek(0)
    content = stream.read()
    stream.seek(place)
    (coded,) = struct.unpack_from("B", content, max(content.find(_SIZE), 0) + _BITS_AT)
    return Precision((coded & 0x7F) + 1, coded >= 0x80)
