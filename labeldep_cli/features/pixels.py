"""What the pixels of a data set's images look like to a network, and what a user should look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from labeldep_cli.features.deep import Values
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.value_ranges import joined, shown, suggested_range

_DARK = 10
"""An image whose mean is below this, of 255, is nearly black."""

_MANY_DARK = 0.1
"""Share of nearly black images above which a wrong range is likelier than pictures of the night."""

_CLIPPED = 0.01
"""Share of an image's values outside the named range above which it counts as clipped; a hot pixel is below."""


@dataclass(frozen=True)
class PixelFacts:
    """What was measured of one image.

    Attributes:
        colour: the one colour that all pixels have, as #rrggbb; empty if they differ.
        mean: shade of grey after scaling, 0..255; None for an image that could not be used.
        values: those of an image with more than 8 bits, else None.
    """

    colour: str = ""
    mean: float | None = None
    values: Values | None = None


def facts_of(image: Image.Image, grey: Image.Image, values: Values | None) -> PixelFacts:
    """Measure an image that was read.

    Args:
        image: RGB.
        grey: the same in shades of grey; to count these takes a third of the time.
        values: as `images.decode_and_measure` returns them.
    """
    levels = np.array(grey.histogram())  # how many pixels have each shade
    mean = float((levels @ np.arange(256)) / levels.sum())
    return PixelFacts(_only_colour(image) if np.count_nonzero(levels) == 1 else "", mean, values)


def _only_colour(image: Image.Image) -> str:
    """The colour of an RGB image, as #rrggbb; empty if it has several."""
    lowest, highest = np.transpose(image.getextrema())
    return "#{:02x}{:02x}{:02x}".format(*lowest) if (lowest == highest).all() else ""


@dataclass(frozen=True)
class Some:
    """Some images of a data set: how many they are, and the first one's path."""

    images: int = 0
    example: str = ""

    def to_json(self) -> dict[str, Any]:
        """One object; `example` is null if there are no images."""
        return {"images": self.images, "example": self.example or None}


@dataclass(frozen=True)
class PixelReport:
    """What `labeldep data` says about pixels.

    Attributes:
        rules: the rules by which the images were read.
        images: the number of images that were read.
        deep: images with more than 8 bits.
        values: what these hold together; None if there are none.
        unread: those of them that need a value range.
        unread_values: what these hold together.
        clipped: those of them of which more than a hundredth is outside the named range.
        black, white, constant: images that are entirely black, entirely white, or of one other colour.
        dark: other images that are nearly black.
    """

    rules: PixelRules
    images: int
    deep: Some
    values: Values | None
    unread: Some
    unread_values: Values | None
    clipped: Some
    black: Some
    white: Some
    constant: Some
    dark: Some

    @staticmethod
    def of(paths: Sequence[str], facts: Iterable[PixelFacts | None], rules: PixelRules) -> PixelReport:
        """Sum up the facts of images; None for one that was not decoded."""
        known = [(path, fact) for path, fact in zip(paths, facts, strict=True) if fact is not None]

        def those(holds: Callable[[PixelFacts], bool]) -> Some:
            chosen = [path for path, fact in known if holds(fact)]
            return Some(len(chosen), chosen[0]) if chosen else Some()

        return PixelReport(
            rules,
            sum(fact.mean is not None for _, fact in known),
            those(lambda fact: fact.values is not None),
            joined(fact.values for _, fact in known if fact.values is not None),
            those(lambda fact: fact.mean is None),
            joined(fact.values for _, fact in known if fact.values is not None and fact.mean is None),
            those(lambda fact: fact.values is not None and fact.values.outside > _CLIPPED),
            those(lambda fact: fact.colour == "#000000"),
            those(lambda fact: fact.colour == "#ffffff"),
            those(lambda fact: fact.colour not in ("", "#000000", "#ffffff")),
            those(lambda fact: not fact.colour and fact.mean is not None and fact.mean < _DARK),
        )

    @property
    def range_in_use(self) -> str | None:
        """The range of images with more than 8 bits, in words; None if there are none, or if none was read."""
        if self.deep.images == self.unread.images:
            return None
        return self.rules.value_range or "the full range of their type"

    @property
    def suggested(self) -> str | None:
        """The range to name, if images need one."""
        return None if self.unread_values is None else suggested_range(self.unread_values)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What a user should know, most important first; nothing for usual images."""
        told = []
        if self.values is not None:
            low, high = shown(self.values.low), shown(self.values.high)
            used = f"; scaled to 8 bits: {self.range_in_use}" if self.range_in_use else ""
            verb = "has" if self.deep.images == 1 else "have"
            told.append(f"{_counted(self.deep)} {verb} more than 8 bits, values {low} to {high}{used}")
        if self.unread_values is not None:
            low, high = shown(self.unread_values.low), shown(self.unread_values.high)
            others = self.deep.images - self.unread.images
            also = f"; it will hold for the other {others} too" if others else ""
            told.append(
                f"{_counted(self.unread)} cannot be used, since the range of the values, {low} to {high}, is unclear: "
                f"name it, --value-range {self.suggested}{also}"
            )
        if self.clipped.images:
            told.append(f"{_counted(self.clipped)}: over 1 % of the values are outside {self.range_in_use}")
        for some, what in (
            (self.black, "entirely black"),
            (self.white, "entirely white"),
            (self.constant, "of one colour only"),
        ):
            if some.images:
                told.append(f"{_counted(some)} {_are(some)} {what}")
        if self.dark.images > _MANY_DARK * self.images:
            told.append(f"{_counted(self.dark)} {_are(self.dark)} nearly black, with a mean below {_DARK} of 255")
        return tuple(told)

    def to_json(self) -> dict[str, Any]:
        """The key `pixels` in the JSON of `labeldep data`."""
        return {
            "background": self.rules.background,
            "value_range": self.rules.value_range,
            "more_than_8_bits": {
                **self.deep.to_json(),
                "lowest": self.values and self.values.low,
                "highest": self.values and self.values.high,
                "range": self.range_in_use,
                "need_a_range": self.unread.to_json(),
                "suggested_range": self.suggested,
                "clipped": self.clipped.to_json(),
            },
            "black": self.black.to_json(),
            "white": self.white.to_json(),
            "one_colour": self.constant.to_json(),
            "nearly_black": self.dark.to_json(),
        }


def _are(some: Some) -> str:
    return "is" if some.images == 1 else "are"


def _counted(some: Some) -> str:
    return f"{some.images} {'image' if some.images == 1 else 'images'} ({some.example})"
