"""A copy of an image with its label set written below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import read_image
from labeldep_cli.files import atomic_write
from labeldep_cli.reports.pictures import Font, font_of

LONGEST = 1024
"""Pixels of a copy's longer side at most; a smaller image keeps its size."""

_MOST_LABELS = 200
"""Drawn at most, the first ones; the rest are counted. A JPEG has at most 65,500 rows."""

_LEAST = 320  # pixels of a copy's width, so that a label fits below the smallest image
_PAPER, _INK, _EMPTY, _FULL = (24, 24, 24), (255, 255, 255), (64, 64, 64), (0, 96, 150)


@dataclass(frozen=True)
class _Chip:
    """A label as it is drawn: its text, how far it is filled (0..1), its place and width."""

    text: str
    filled: float
    left: int
    top: int
    width: int


def annotate(file: ImageFile, labels: Sequence[tuple[str, float]], copy: Path) -> None:
    """Write a copy of an image, its labels in a band below it: name, probability, and a bar as long as that.

    Args:
        file: the image.
        labels: (name, probability 0..1), in the order that they are written in.
        copy: a `.png`, or else a JPEG; its folder exists.

    Raises:
        UnreadableImage: the image can no longer be read.
        StorageError: the copy cannot be written.
    """
    photo = read_image(file, LONGEST)
    photo.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    width = max(photo.width, _LEAST)
    font_size = max(15, width // 44)
    font, margin = font_of(font_size), font_size // 2
    chips, bottom = _laid_out(labels, font, width, font_size)
    sheet = Image.new("RGB", (width, photo.height + bottom), _PAPER)
    sheet.paste(photo, ((width - photo.width) // 2, 0))
    draw = ImageDraw.Draw(sheet)
    for chip in chips:
        left, top = chip.left, photo.height + chip.top
        draw.rectangle((left, top, left + chip.width - 1, top + 2 * font_size - 1), fill=_EMPTY)
        if round(chip.filled * chip.width):
            draw.rectangle((left, top, left + round(chip.filled * chip.width) - 1, top + 2 * font_size - 1), fill=_FULL)
        draw.text((left + margin, top + font_size), chip.text, fill=_INK, font=font, anchor="lm")
    with atomic_write(copy) as beside:
        sheet.save(beside, format="PNG" if copy.suffix.lower() == ".png" else "JPEG", quality=90)


def _laid_out(labels: Sequence[tuple[str, float]], font: Font, width: int, size: int) -> tuple[list[_Chip], int]:
    """Chips in lines that fit the width, and the height of the band."""
    margin = size // 2
    chips: list[_Chip] = []
    left = top = margin
    shown = list(labels[:_MOST_LABELS]) or [("(no label)", 0.0)]
    if len(labels) > _MOST_LABELS:
        shown.append((f"and {len(labels) - _MOST_LABELS} more", 0.0))
    for k, (name, p) in enumerate(shown):
        text = _shortened(
            " ".join(name.split()), f" {p:.2f}" if k < min(len(labels), _MOST_LABELS) else "", font, width - 4 * margin
        )
        length = round(font.getlength(text)) + 2 * margin
        if left > margin and left + length > width - margin:
            left, top = margin, top + 2 * size + margin
        chips.append(_Chip(text, p, left, top, length))
        left += length + margin
    return chips, top + 2 * size + margin


def _shortened(name: str, after: str, font: Font, room: int) -> str:
    """The text, its name cut off where it is longer than the room (pixels)."""
    if font.getlength(name + after) <= room:
        return name + after
    while name and font.getlength(f"{name}…{after}") > room:
        name = name[:-1]
    return f"{name}…{after}"
