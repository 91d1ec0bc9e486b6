"""Contact sheets: images with their label sets below them, like the paper's Fig. 2."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.files import atomic_write
from labeldep_cli.text import visible

COLUMNS = 3
_WIDTH, _HEIGHT = 360, 270  # pixels of a photo's box
_MARGIN = 18
_SIZE = 14  # pixels of the text
_LINE = 20
_INK, _RIGHT, _WRONG, _MISSED = (30, 30, 30), (0, 105, 60), (185, 25, 25), (110, 110, 110)

_FONT = "DejaVuSans.ttf"
"""Used if the system has it, since it covers most scripts. Pillow's built-in font covers little more than ASCII."""

LEGEND = "green: in the truth; red, struck through: not in the truth; grey, in brackets: in the truth, but missed"


@dataclass(frozen=True)
class Labelled:
    """An image, its true labels, and the label sets that models predict for it.

    Attributes:
        file: the image.
        truth: its true labels.
        answers: (title of the model, predicted labels).
    """

    file: ImageFile
    truth: tuple[str, ...]
    answers: tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True)
class _Word:
    """A label as it is drawn. A stroke through the text repeats what its colour says, so colour is not needed."""

    text: str
    ink: tuple[int, int, int]
    struck: bool = False
    comma: str = ""


def contact_sheet(items: Sequence[Labelled], rules: PixelRules, title: Sequence[str], path: Path) -> None:
    """Write a PNG of images with truth and predictions below each.

    Args:
        items: at least one.
        rules: how their files become 8-bit RGB.
        title: lines of text above the images.
        path: of the PNG.

    Raises:
        UnreadableImage: an image can no longer be read.
        StorageError: the file cannot be written.
    """
    font = font_of()
    texts = [_lines(item, font) for item in items]
    rows = [range(start, min(start + COLUMNS, len(items))) for start in range(0, len(items), COLUMNS)]
    heights = [_HEIGHT + _LINE * (max(len(texts[k]) for k in row) + 1) + _MARGIN for row in rows]
    width = COLUMNS * (_WIDTH + _MARGIN) + _MARGIN
    top = (len(title) + 2) * _LINE
    sheet = Image.new("RGB", (width, sum(heights) + top), "white")
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate((*title, LEGEND)):
        draw.text((_MARGIN, _LINE // 2 + number * _LINE), visible(line), fill=_INK, font=font)
    for row, height in zip(rows, heights, strict=True):
        for column, k in enumerate(row):
            left = _MARGIN + column * (_WIDTH + _MARGIN)
            _paste(sheet, read_image(items[k].file, rules), left, top)
            _write(draw, texts[k], (left, top + _HEIGHT + _LINE // 2), font)
        top += height
    with atomic_write(path) as temporary:
        sheet.save(temporary, format="PNG")


def _paste(sheet: Image.Image, photo: Image.Image, left: int, top: int) -> None:
    """Fit a photo into its box and keep its proportions; a small photo is enlarged."""
    scale = min(_WIDTH / photo.width, _HEIGHT / photo.height)
    size = (max(round(photo.width * scale), 1), max(round(photo.height * scale), 1))
    sheet.paste(photo.resize(size, Image.Resampling.LANCZOS), (left, top + _HEIGHT - size[1]))


Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def font_of(size: int = _SIZE) -> Font:
    """A font of the given size in pixels."""
    try:
        return ImageFont.truetype(_FONT, size)
    except OSError:
        return ImageFont.load_default(size)


_LONGEST = 2000
"""Letters of a name that are measured at most; far fewer fit any picture."""


def drawn(name: str, font: Font, width: float, suffix: str = "") -> str:
    """A name as it is drawn: on one line, without hidden characters, and cut off to fit a width in pixels.

    Args:
        name: of a label or a file.
        font: in which it is drawn.
        width: for the name and what follows it.
        suffix: what follows it, which is not cut off.
    """
    text = visible(" ".join(name.split()))
    if len(text) <= _LONGEST and font.getlength(text + suffix) <= width:
        return text + suffix
    fitting = bisect_left(
        range(min(len(text), _LONGEST)), True, key=lambda n: font.getlength(f"{text[: n + 1]}…{suffix}") > width
    )
    return f"{text[:fitting]}…{suffix}"


def _lines(item: Labelled, font: Font) -> list[list[_Word]]:
    """Truth and predictions, broken into lines that fit the box."""
    width = _WIDTH - font.getlength("(),")

    def word(label: str, ink: tuple[int, int, int], struck: bool = False) -> _Word:
        return _Word(drawn(label, font, width), ink, struck)

    lines = _wrapped([_Word("truth:", _INK), *_separated([word(label, _INK) for label in item.truth])], font)
    for model, labels in item.answers:
        words = [word(label, _RIGHT) if label in item.truth else word(label, _WRONG, struck=True) for label in labels]
        missed = [_Word(f"({drawn(label, font, width)})", _MISSED) for label in item.truth if label not in labels]
        lines += _wrapped([_Word(drawn(model, font, width, ":"), _INK), *_separated([*words, *missed])], font)
    return lines


def _separated(words: Sequence[_Word]) -> list[_Word]:
    """Put commas between labels; an empty set becomes `(no label)`."""
    last = len(words) - 1
    commas = [replace(word, comma="," if k < last else "") for k, word in enumerate(words)]
    return commas or [_Word("(no label)", _INK)]


def _wrapped(words: Sequence[_Word], font: Font) -> list[list[_Word]]:
    lines: list[list[_Word]] = [[]]
    used = 0.0
    for word in words:
        length = font.getlength(word.text + word.comma + " ")
        if lines[-1] and used + length > _WIDTH:
            lines.append([])
            used = 0.0
        lines[-1].append(word)
        used += length
    return lines


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[Sequence[_Word]], at: tuple[int, int], font: Font) -> None:
    left, top = at
    for number, line in enumerate(lines):
        x, y = float(left), top + number * _LINE
        for word in line:
            draw.text((x, y), word.text + word.comma, fill=word.ink, font=font)
            if word.struck:
                middle = y + 0.6 * _SIZE
                draw.line([(x - 1, middle), (x + font.getlength(word.text), middle)], fill=word.ink, width=1)
            x += font.getlength(word.text + word.comma + " ")
