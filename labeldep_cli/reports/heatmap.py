"""Heat maps of label pairs: pictures of a few kilobytes, readable on a light and on a dark page."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeldep_cli.reports.page import data_uri

_ABOVE, _BELOW = (213, 94, 0), (0, 114, 178)
"""Okabe and Ito's vermilion and blue, which differ for colour-blind readers too. Near 0 a cell is transparent."""

_PIXELS = 6
"""Side of a cell in the picture, in pixels."""

_BAR = slice(2, 4)
"""Pixel rows of a cell that are drawn for a value below 0. A value above 0 fills the cell. So no colours are needed."""

_LETTER = 7.0  # width of a letter in pixels
_LONGEST = 22  # letters of a name
_SIDE, _SMALLEST, _LARGEST = 240, 15, 34  # pixels: side of a map that fits a phone's page; limits of a cell's side


@dataclass(frozen=True)
class Axes:
    """The axes that several maps of the same labels share; lengths in pixels.

    Attributes:
        names: the labels in order, long ones shortened.
        cell: side of a cell.
        left: space for the names, to the left of the map and above it.
        side: side of the map.
    """

    names: tuple[str, ...]
    cell: int
    left: int
    side: int

    @staticmethod
    def of(names: Sequence[str]) -> Axes:
        """Make cells as large as a phone's page allows, but not smaller than the names next to them."""
        shown = tuple(name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…" for name in names)
        cell = min(max(_SIDE // len(names), _SMALLEST), _LARGEST)
        left = round(_LETTER * max(map(_width, shown))) + 8
        return Axes(shown, cell, left, cell * len(names))


def _width(text: str) -> int:
    """The width of a text in letters; wide East Asian characters count as two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def picture(values: NDArray[np.float64], most: float) -> str:
    """The cells of a map as the data URI of a PNG, with `_PIXELS` x `_PIXELS` pixels per cell.

    Args:
        values: [L, L].
        most: values of at least this size, of either sign, get the full colour.
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
