"""Pixels with more than 8 bits: their values in the file, and how they become 8 bits."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeldep_cli.features.jpeg2000 import precision_of

_FULL = 65535
_BRIGHT = 16384
"""A 16-bit image that does not reach this value probably has fewer bits: 10, 12 or 14 of a camera or a scanner."""

_NEAR_UNIT, _INSIDE = (-0.5, 1.5), 0.99
"""Floats have the range 0 to 1 if all are within these limits, and this share of them is within 0 to 1."""

_ROWS = 64
"""Rows that are scaled at a time: in floats an image takes eight times the memory."""

_TRANSPARENCY = "transparency"
_BITS, _PHOTOMETRIC, _BANDS, _LAYOUT, _NUMBERS = 258, 262, 277, 284, 339  # tags of a TIFF
_UNSIGNED, _SIGNED, _BAND_BY_BAND = 1, 2, 2


class Values(NamedTuple):
    """The finite values of an image with more than 8 bits.

    Attributes:
        low, high: the lowest and the highest.
        whole: whether they are integers.
        outside: share of the values outside the range in use, 0..1; 0 if there is no such range.
    """

    low: float
    high: float
    whole: bool
    outside: float = 0.0


class NoValueRange(Exception):
    """An image has more than 8 bits, no range is named, and its own is unclear."""

    def __init__(self, values: Values) -> None:
        super().__init__(values)
        self.values = values


class UnreadTiff(Exception):
    """A TIFF has bands or numbers that are not read, or only a thumbnail of its image."""


class UnreadBits(Exception):
    """A format whose values with more than 8 bits Pillow spoils."""


@dataclass(frozen=True)
class DeepPixels:
    """Pixels with more than 8 bits, as the file has them.

    Attributes:
        values: [H, W] grey, or [H, W, 3].
        alpha: uint8 [H, W], 0 for transparent; None if all pixels are opaque.
        brightest: the highest value that unsigned integers of up to 16 bits can have; None for other numbers.
        inverted: whether the lowest value is white.
    """

    values: NDArray[Any]
    alpha: NDArray[np.uint8] | None = None
    brightest: int | None = None
    inverted: bool = False

    def to_8_bits(self, limits: tuple[float, float] | None) -> tuple[NDArray[np.uint8], Values]:
        """Scale the values to 0..255, rounded. Values outside the range are clipped; NaN is the darkest.

        Args:
            limits: the range; None for the image's own.

        Returns:
            uint8, of the shape of `values`; and what was measured.

        Raises:
            NoValueRange: `limits` is None, and the image's own range is unclear.
        """
        whole = self.values.dtype.kind != "f"
        finite = self.values if whole else self.values[np.isfinite(self.values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        limits = limits or self._own_range(finite, low, high)
        if limits is None:
            raise NoValueRange(Values(low, high, whole))
        outside = 0.0
        if low < limits[0] or high > limits[1]:
            outside = float(((finite < limits[0]) | (finite > limits[1])).mean())
        return self._scaled(*limits), Values(low, high, whole, outside)

    def _own_range(self, finite: NDArray[Any], low: float, high: float) -> tuple[float, float] | None:
        if self.brightest is not None:
            return (0.0, float(self.brightest)) if self.brightest < _FULL or high >= _BRIGHT else None
        if self.values.dtype.kind == "f" and _NEAR_UNIT[0] <= low and high <= _NEAR_UNIT[1]:
            inside = ((finite >= 0) & (finite <= 1)).mean() if finite.size else 1.0
            return (0.0, 1.0) if inside >= _INSIDE else None
        return None

    def _scaled(self, low: float, high: float) -> NDArray[np.uint8]:
        is_short = self.values.dtype == np.uint16
        table = _to_8_bits(np.arange(_FULL + 1), low, high) if is_short else None
        scaled = np.empty(self.values.shape, np.uint8)
        for start in range(0, len(scaled), _ROWS):
            values = self.values[start : start + _ROWS]
            scaled[start : start + _ROWS] = _to_8_bits(values, low, high) if table is None else table[values]
        return np.invert(scaled) if self.inverted else scaled


def _to_8_bits(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    known = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low).clip(low, high)
    return np.rint((known - low) * (255 / (high - low))).astype(np.uint8)


def deep_pixels(image: Image.Image) -> DeepPixels | None:
    """The pixels of an opened image with more than 8 bits; None for any other image, which is not decoded here.

    Raises:
        UnreadTiff: a TIFF has more bands than red, green, blue and one more, 16 bits in bands that are apart, or
            signed integers of 8 bits.
        UnreadBits: a JPEG 2000 has colours with more than 8 bits.
        Exception: the file is damaged; Pillow's decoders raise many kinds.
    """
    tags: Mapping[int, Any] = getattr(image, "tag_v2", {})
    bands, bits = tags.get(_BANDS, 1), tags.get(_BITS, (8,))[0]
    if bands > 4 and tags.get(_PHOTOMETRIC) in (0, 1, 2):
        raise UnreadTiff
    if bands > 1 and bits > 8 and tags.get(_LAYOUT) == _BAND_BY_BAND:  # Pillow takes their bytes for pixels
        raise UnreadTiff
    if bits == 8 and tags.get(_NUMBERS, (_UNSIGNED,))[0] == _SIGNED:  # and -1 for 255
        raise UnreadTiff
    if image.format == "JPEG2000":
        return _of_jpeg2000(image)
    if image.mode == "F":
        return DeepPixels(np.asarray(image))
    if image.mode.startswith("I"):
        return _grey(image, tags)
    modes = {_raw_mode(tile) for tile in getattr(image, "tile", ())}
    mode = modes.pop() if len(modes) == 1 else ""
    if mode == "LA;16B":
        return _grey_with_alpha(image)
    return _colours(image) if re.fullmatch(r"RGB[AaX]?;16[LBN]", mode) else None


def _grey(image: Image.Image, tags: Mapping[int, Any]) -> DeepPixels:
    """Grey integers: 16 bits of any format, or up to 32 of a TIFF."""
    declared = _declared_maximum(image)
    values = np.asarray(image)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    brightest: int | None = _FULL
    if declared is not None:  # Pillow has scaled the values to 16 bits
        brightest, values = declared, np.rint(values * (declared / _FULL)).astype(np.uint16)
    elif values.dtype == np.uint16:
        brightest = 2 ** tags.get(_BITS, (16,))[0] - 1
    elif image.format in ("PNG", "PPM"):  # they have no other integers
        values = values.astype(np.uint16)
    else:
        brightest = None
        if tags and tags.get(_NUMBERS, (_UNSIGNED,))[0] == _UNSIGNED:
            values = values.view(np.uint32)
    return DeepPixels(values, _alpha(values, image), brightest, inverted=tags.get(_PHOTOMETRIC) == 0)


def _of_jpeg2000(image: Image.Image) -> DeepPixels | None:
    """The pixels of a JPEG 2000. Pillow makes 16 bits of grey ones, and 8 of the others, whatever the file has."""
    precision = precision_of(image)
    if precision.bits <= 8:
        return None
    if image.mode != "I;16" or precision.bits > 16:  # Pillow turns white into black there
        raise UnreadBits
    values = np.asarray(image) >> (16 - precision.bits)
    if precision.signed:
        return DeepPixels(values.astype(np.int32) - 2 ** (precision.bits - 1))
    return DeepPixels(values, brightest=2**precision.bits - 1)


def _declared_maximum(image: Image.Image) -> int | None:
    """The highest value of a PGM as its header tells it, if Pillow scales it to 16 bits."""
    tiles = getattr(image, "tile", ())
    if image.format != "PPM" or not tiles or not tiles[0][0].startswith("ppm"):
        return None
    return int(tiles[0][3][1])


def _grey_with_alpha(image: Image.Image) -> DeepPixels:
    """Grey with alpha, 16 bits each, of a PNG. Read as RGBA, its four bytes are the high and low ones of both."""
    image.tile = [_with_raw_mode(tile, "RGBA") for tile in image.tile]  # type: ignore[attr-defined]
    octets = np.asarray(image)
    return DeepPixels(_joined(octets[..., 0], octets[..., 1]), octets[..., 2], _FULL)


def _colours(image: Image.Image) -> DeepPixels:
    """RGB of 16 bits a channel. Pillow keeps the high bytes; decoded in the other byte order, it keeps the low ones."""
    mode = _raw_mode(image.tile[0])  # type: ignore[attr-defined]
    premultiplied = "a" in mode
    mode = mode.replace("a", "A")
    image.tile = [_with_raw_mode(tile, mode) for tile in image.tile]  # type: ignore[attr-defined]
    stream = image.fp  # type: ignore[attr-defined]
    place = stream.tell()
    stream.seek(0)
    with Image.open(stream, formats=[str(image.format)]) as again:
        again.seek(image.tell())
        again.tile = [_with_raw_mode(tile, _other_order(mode)) for tile in again.tile]
        low = np.array(again)
    stream.seek(place)
    high = np.asarray(image)
    values = _joined(high[..., :3], low[..., :3])
    if premultiplied:
        values = np.minimum(values * (255 / np.maximum(high[..., 3:], 1)), _FULL).astype(np.uint16)
    return DeepPixels(values, high[..., 3] if image.mode == "RGBA" else _alpha(values, image), _FULL)


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint16]:
    return high.astype(np.uint16) * np.uint16(256) + low


def _alpha(values: NDArray[Any], image: Image.Image) -> NDArray[np.uint8] | None:
    """The alpha of a PNG that names one value, or one colour, as transparent."""
    key = image.info.get(_TRANSPARENCY)
    if not isinstance(key, int | tuple):
        return None
    same = (values == np.array(key)).reshape(*values.shape[:2], -1).all(axis=2)
    return np.where(same, 0, 255).astype(np.uint8)


def _raw_mode(tile: Any) -> str:  # noqa: ANN401 - a tile of Pillow: decoder, box, offset, arguments
    """The layout of a tile's pixels in the file, such as "RGB;16L"; empty if its decoder has none."""
    arguments = tile[3]
    first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return first if isinstance(first, str) else ""


def _with_raw_mode(tile: Any, mode: str) -> Any:  # noqa: ANN401 - as for `_raw_mode`
    decoder, box, offset, arguments = tile
    changed = mode if isinstance(arguments, str) else (mode, *arguments[1:])
    return tile._replace(args=changed) if hasattr(tile, "_replace") else (decoder, box, offset, changed)


def _other_order(mode: str) -> str:
    native = "L" if sys.byteorder == "little" else "B"
    order = native if mode[-1] == "N" else mode[-1]
    return mode[:-1] + ("B" if order == "L" else "L")
