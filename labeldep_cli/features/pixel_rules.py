"""The rules by which image files become 8-bit RGB, the same for all images of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from labeldep_cli.config import Source
from labeldep_cli.config.reading import COLOURS, range_of
from labeldep_cli.config.reading import colour_of as rgb_of


@dataclass(frozen=True)
class PixelRules:
    """What a user decides about pixels. It is part of the identity of features.

    Attributes:
        value_range: "LOW,HIGH", the darkest and the brightest value of pixels with more than 8 bits; None for the full
            range of 16 bits, and 0 to 1 for floats.
        background: the colour behind transparent pixels: white, black or #rrggbb.
    """

    value_range: str | None = Source.value_range
    background: str = Source.background

    @staticmethod
    def of(source: Source) -> PixelRules:
        """The rules of a data set."""
        return PixelRules(source.value_range, source.background)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The two numbers of the range; None if no range is named."""
        return None if self.value_range is None else range_of(self.value_range)

    @property
    def colour(self) -> tuple[int, int, int]:
        """Red, green and blue of the background, each 0..255."""
        return rgb_of(self.background)

    @property
    def words(self) -> str:
        """The rules in words, the same for each spelling of a colour: "on white, values 0,4095 as 0,255"."""
        colour = "#{:02x}{:02x}{:02x}".format(*self.colour)
        named = {code: name for name, code in COLOURS.items()}
        scaled = "" if self.value_range is None else f", values {self.value_range} as 0,255"
        return f"on {named.get(colour, colour)}{scaled}"


USUAL_RULES = PixelRules()
"""Those of a user who decides nothing."""
