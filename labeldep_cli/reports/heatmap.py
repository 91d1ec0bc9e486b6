"""Heat maps of label pairs: a picture of a few kilobytes with the labels' names beside it, on either ground."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeldep_cli.reports.page import data_uri

_ABOVE, _BELOW = (213, 94, 0), (0, 114, 178)
"""Okabe and Ito's vermilion and blue, told apart without colour vision; near 0 the ground shows through."""

_PIXELS = 6
_BAR = slice(2, 4)
"""Of a cell's rows: a value below 0 is a bar, one above 0 the whole cell, for those who see no colours at all."""

_LETTER = 7.0
_LONGEST = 22
_SIDE, _SMALLEST, _LARGEST = 240, 15, 34  # pixels: of a map that a phone shows whole, and of its cells


@dataclass(frozen=True)
class Axes:
    """The frame that several maps of the same labels share; pixels.

    Attributes:
        names: the labels in order, long ones cut.
        cell: side of a cell.
        left: room for the names.
        side: of the map.
    """

    names: tuple[str, ...]
    cell: int
    left: int
    side: int

    @staticmethod
    def of(names: Sequence[str]) -> Axes:
        """Cells as large as a phone's page allows, but large enough for a name beside each."""
        shown = tuple(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names)
        cell = min(max(_SIDE // len(names), _SMALLEST), _LARGEST)
        left = round(_LETTER * max(map(_width, shown))) + 8
        return Axes(shown, cell, left, cell * len(names))


def _width(text: str) -> int:
    """How many letters wide a text is."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def picture(values: NDArray[np.float64], most: float) -> str:
    """A map's cells as the data URI of a PNG, `_PIXELS` a cell.

    Args:
        values: [L, L].
        most: the value with the full colour, and its negative.
    """
    strength = np.clip(np.abs(values) / most, 0, 1)
    pixels = np.zeros((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where((values > 0)[..., None], _ABOVE, _BELOW)
    pixels[..., 3] = np.round(255 * strength)
    large = np.repeat(np.repeat(pixels, _PIXELS, axis=0), _PIXELS, axis=1)
    row = np.arange(len(large)) % _PIXELS
    outside_bar = (row < _BAR.start) | (row >= _BAR.stop)
    large[np.repeat(np.repeat(values < 0, _PIXELS, axis=0), _PIXELS, axis=1) & outside_bar[:, None], 3] = 0
    return data_uri(Image.fromarray(large), "PNG")
