"""Reading an image file of any kind into 8-bit RGB, or a reason why it cannot be used."""

from __future__ import annotations

import errno
import io
import os
import stat
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import StubImageFile

from labeldep_cli.datasets.image_file import ImageFile, InMemory, Member
from labeldep_cli.features.deep import DeepPixels, NoValueRange, UnreadBits, UnreadTiff, Values, deep_pixels
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.png_text import SIGNATURE, without_text
from labeldep_cli.features.reasons import Reason, is_heif, reason_of_content

MAX_PIXELS = 178_956_970
"""Images with more pixels are never decoded (twice Pillow's warning level; 512 MiB as RGB)."""


_KIND_OF_PAGE, _REDUCED = 254, 1  # a tag of a TIFF, and its bit for a page at lower resolution
_SAME_SHAPE = 0.05
"""Difference of two images' ratio of width to height below which one may be a thumbnail of the other."""


class UnreadableImage(Exception):
    """An image file that cannot be used, with its reason; `values` if it has more than 8 bits and no range."""

    def __init__(self, file: ImageFile, reason: Reason, values: Values | None = None) -> None:
        super().__init__(file, reason, values)
        self.file = file
        self.reason = reason
        self.values = values


def read_content(file: ImageFile) -> bytes:
    """The bytes of an image file. Pipes and devices are never opened: they may block, or never end.

    Raises:
        UnreadableImage: the file is missing, is no regular file, or must not or cannot be read.
    """
    try:
        if isinstance(file, Path):
            mode = os.stat(file).st_mode  # noqa: PTH116 - Path.stat is slower
            if not stat.S_ISREG(mode):
                raise UnreadableImage(file, Reason.FOLDER if stat.S_ISDIR(mode) else Reason.NO_REGULAR_FILE)
        with file.open("rb") as stream:
            return stream.read()
    except (OSError, ValueError) as error:
        raise UnreadableImage(file, _reason_of_error(error, file)) from None


def absence(file: ImageFile) -> Reason:
    """Why there is no file to look at: it is missing, forbidden, or a link to nothing."""
    if isinstance(file, InMemory):
        return Reason.EMPTY
    path = file.tar if isinstance(file, Member) else file
    try:
        os.lstat(path)
    except FileNotFoundError:  # most of them, so it is the only question
        return Reason.MISSING
    except (OSError, ValueError) as error:
        return _reason_of_error(error, file)
    try:
        os.stat(path)  # noqa: PTH116 - Path.stat is slower
    except (OSError, ValueError) as error:
        return _reason_of_error(error, file)
    return Reason.MISSING


def _reason_of_error(error: OSError | ValueError, file: ImageFile) -> Reason:
    if isinstance(error, PermissionError):
        return Reason.NOT_PERMITTED
    if isinstance(error, FileNotFoundError):
        return Reason.DANGLING_LINK if isinstance(file, Path) and file.is_symlink() else Reason.MISSING
    if isinstance(error, NotADirectoryError | ValueError):  # ValueError: a null byte in the name
        return Reason.MISSING
    reasons = {errno.ELOOP: Reason.LINK_LOOP, errno.ENAMETOOLONG: Reason.MISSING}
    return reasons.get(error.errno or 0, Reason.NO_DISK)


def read_image(file: ImageFile, rules: PixelRules, at_least: int | None = None) -> Image.Image:
    """Read and decode an image file: `read_content`, then `decode_image`."""
    return decode_image(read_content(file), file, rules, at_least)


def decode_image(content: bytes, file: ImageFile, rules: PixelRules, at_least: int | None = None) -> Image.Image:
    """Decode an image to 8-bit RGB.

    The EXIF rotation is applied. An animation gives its first frame. Palette, CMYK and grey images are converted.
    Transparent pixels show the background. Pixels with more than 8 bits are scaled, not clipped.

    Args:
        content: the file's bytes.
        file: where they come from, for the error.
        rules: the background, and the range of pixels with more than 8 bits.
        at_least: the height and width in pixels that are needed; a JPEG is decoded at the smallest of the scales 1,
            1/2, 1/4, 1/8 that has them. None for full size.

    Returns:
        An RGB image.

    Raises:
        UnreadableImage: the content is empty, not an image, broken, larger than MAX_PIXELS, or has more than 8 bits
            and an unclear range.
    """
    return decode_and_measure(content, file, rules, at_least)[0]


def decode_and_measure(
    content: bytes, file: ImageFile, rules: PixelRules, at_least: int | None = None
) -> tuple[Image.Image, Values | None]:
    """`decode_image`, and what was measured of pixels with more than 8 bits; None if there are none."""
    if not content:
        raise UnreadableImage(file, Reason.EMPTY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about size and EXIF
            with _opened(content) as image:
                _leave_thumbnail(image)
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadableImage(file, Reason.TOO_LARGE)
                if image.format == "EPS":  # to decode it would run Ghostscript
                    raise UnreadableImage(file, Reason.DOCUMENT)
                if isinstance(image, StubImageFile):
                    raise UnreadableImage(file, Reason.OTHER_FORMAT)
                if at_least is not None:
                    image.draft(None, (at_least, at_least))
                return as_rgb(image, rules)
    except Image.DecompressionBombError:
        raise UnreadableImage(file, Reason.TOO_LARGE) from None
    except UnidentifiedImageError:
        raise UnreadableImage(file, reason_of_content(content)) from None
    except NoValueRange as unclear:
        raise UnreadableImage(file, Reason.NO_VALUE_RANGE, unclear.values) from None
    except UnreadTiff:
        raise UnreadableImage(file, Reason.OTHER_TIFF) from None
    except UnreadBits:
        raise UnreadableImage(file, Reason.UNREAD_BITS) from None
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # Pillow's decoders raise many kinds on damaged data: struct.error, RuntimeError, ...
        is_text = isinstance(error, ValueError) and "MAX_TEXT" in str(error)
        raise UnreadableImage(file, Reason.LONG_TEXT if is_text else Reason.BROKEN) from None


def _opened(content: bytes) -> Image.Image:
    if content.startswith(SIGNATURE):
        content = without_text(content)
    elif is_heif(content):
        reads_heif()
    return Image.open(io.BytesIO(content))


def _leave_thumbnail(image: Image.Image) -> None:
    """Go on to the page of a TIFF that the first page is a thumbnail of: of the same shape, at least twice as large.

    Raises:
        UnreadTiff: the file calls its first page a reduced one, and no page is the full image: raw data of a camera.
    """
    if image.format != "TIFF":
        return
    width, height = image.size
    with suppress(Exception):  # the first page may be good even if the others are damaged
        for page in range(1, getattr(image, "n_frames", 1)):
            image.seek(page)
            if image.width >= 2 * width and abs(image.width * height / (image.height * width) - 1) < _SAME_SHAPE:
                return
    image.seek(0)
    if getattr(image, "tag_v2", {}).get(_KIND_OF_PAGE, 0) & _REDUCED:
        raise UnreadTiff


@cache
def reads_heif() -> bool:
    """Whether HEIC photos can be read: the extra `heif` is installed. Pillow is taught to read them."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def still_holds(reason: int, rules: PixelRules) -> bool:
    """Whether a reason that was stored earlier would be given again, with these rules and the packages installed."""
    if reason == Reason.NO_VALUE_RANGE:
        return rules.value_range is None
    return not (reason == Reason.HEIF and reads_heif())


def as_rgb(image: Image.Image, rules: PixelRules) -> tuple[Image.Image, Values | None]:
    """An opened image as 8-bit RGB, with its EXIF rotation applied; and the measured values, as `decode_and_measure`.

    Raises:
        NoValueRange: the image has more than 8 bits, no range is named, and its own is unclear.
        UnreadTiff: a TIFF has bands or numbers that are not read.
        UnreadBits: a format whose values with more than 8 bits are not read.
        Exception: the file is damaged; Pillow's decoders raise many kinds.
    """
    deep = deep_pixels(image)
    flat, values = (_on_background(image, rules.colour), None) if deep is None else _scaled(deep, rules)
    return _upright(flat, image), values


def _scaled(deep: DeepPixels, rules: PixelRules) -> tuple[Image.Image, Values]:
    pixels, values = deep.to_8_bits(rules.limits)
    rgb = Image.fromarray(pixels).convert("RGB")
    if deep.alpha is not None:
        rgb.putalpha(Image.fromarray(deep.alpha))
    return _on_background(rgb, rules.colour), values


def _on_background(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """An image with at most 8 bits a channel as RGB; transparent pixels show the background."""
    image.load()  # the mode of an ICO is known only then
    if not image.has_transparency_data:
        return image.convert("RGB")
    pixels = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", pixels.size, colour), pixels).convert("RGB")


_UPRIGHT: Mapping[float, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


def orientation_of(opened: Image.Image) -> int:
    """The EXIF orientation of an opened image, 1..8; 1, upright, if it has none or a damaged one."""
    try:
        orientation = opened.getexif().get(_ORIENTATION)
    except Exception:  # the pixels may be good even if the tags are damaged
        return 1
    if isinstance(orientation, int | float) and orientation in _UPRIGHT:  # some write 6.0
        return int(orientation)
    return 1


def _upright(decoded: Image.Image, opened: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. Pillow's exif_transpose also rewrites the tags, and fails if one is damaged."""
    turn = _UPRIGHT.get(orientation_of(opened))
    return decoded if turn is None else decoded.transpose(turn)
