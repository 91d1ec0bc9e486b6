"""Copies of images with the label set drawn below them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.files import atomic_write
from labeldep_cli.reports.pictures import Font, drawn, font_of

LONGEST = 1024
"""Maximum length of a copy's longer side, in pixels. A smaller image keeps its size."""

_MOST_LABELS = 200
"""At most this many labels are drawn, the first ones; the rest are counted. A JPEG has at most 65,500 rows."""

_LEAST = 320  # minimum width of a copy in pixels, so that a label fits below the smallest image
_PAPER, _INK, _EMPTY, _FULL = (24, 24, 24), (255, 255, 255), (64, 64, 64), (0, 96, 150)


@dataclass(frozen=True)
class _Chip:
    """A label as it is drawn: its text, the filled part of its bar (0..1), its position and width in pixels."""

    text: str
    filled: float
    left: int
    top: int
    width: int


def annotate(file: ImageFile, rules: PixelRules, labels: Sequence[tuple[str, float]], copy: Path) -> None:
    """Write a copy of an image with its labels in a band below it.

    Each label is drawn as its name, its probability, and a bar whose length is the probability.

    Args:
        file: the image.
        rules: how it becomes 8-bit RGB.
        labels: (name, probability 0..1), in the order in which they are drawn.
        copy: path of the copy. The suffix `.png` gives a PNG, any other a JPEG. Its folder must exist.

    Raises:
        UnreadableImage: the image can no longer be read.
        StorageError: the copy cannot be written.
    """
    photo = read_image(file, rules, LONGEST)
    photo.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    width = max(photo.width, _LEAST)
    font_size = max(15, width // 44)
    font, margin = font_of(font_size), font_size // 2
    chips, bottom = _layout(labels, font, width, font_size)
    sheet = Image.new("RGB", (width, photo.height + bottom), _PAPER)
    sheet.paste(photo, ((width - photo.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for chip in chips:
        left, top = chip.left, photo.height + chip.top
        draw.rectangle((left, top, left + chip.width - 1, top + 2 * font_size - 1), fill=_EMPTY)
        if round(chip.filled * chip.width):
            draw.rectangle((left, top, left + round(chip.filled * chip.width) - 1, top + 2 * font_size - 1), fill=_FULL)
        draw.text((left + margin, top + font_size), chip.text, fill=_INK, font=font, anchor="lm")
    with atomic_write(copy) as temporary:
        sheet.save(temporary, format="PNG" if copy.suffix.lower() == ".png" else "JPEG", quality=90)


def _layout(labels: Sequence[tuple[str, float]], font: Font, width: int, size: int) -> tuple[list[_Chip], int]:
    """Arrange the labels in lines that fit the width; returns the chips and the height of the band, in pixels."""
    margin = size // 2
    chips: list[_Chip] = []
    left = top = margin
    shown = list(labels[:_MOST_LABELS]) or [("(no label)", 0.0)]
    if len(labels) > _MOST_LABELS:
        shown.append((f"and {len(labels) - _MOST_LABELS} more", 0.0))
    for k, (name, p) in enumerate(shown):
        text = drawn(name, font, width - 4 * margin, f" {p:.2f}" if k < min(len(labels), _MOST_LABELS) else "")
        length = round(font.getlength(text)) + 2 * margin
        if left > margin and left + length > width - margin:
            left, top = margin, top + 2 * size + margin
        chips.append(_Chip(text, p, left, top, length))
        left += length + margin
    return chips, top + 2 * size + margin
