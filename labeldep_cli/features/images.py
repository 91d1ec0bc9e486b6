"""Reading an image file of any kind into 8-bit RGB, or a reason why it cannot be used."""

from __future__ import annotations

import io
import warnings
from enum import IntEnum

import numpy as np
from PIL import Image, UnidentifiedImageError

from labeldep_cli.datasets.image_file import ImageFile

MAX_PIXELS = 178_956_970
"""Images with more pixels are never decoded (twice Pillow's warning level; 512 MiB as RGB)."""


class Reason(IntEnum):
    """Why an image was skipped. The numbers are stored in feature stores, so their meaning never changes."""

    MISSING = 1
    EMPTY = 2
    NOT_AN_IMAGE = 3
    BROKEN = 4
    TOO_LARGE = 5
    NOT_PERMITTED = 6
    NOT_FINITE = 7

    @property
    def text(self) -> str:
        """The reason in words."""
        return _TEXTS[self]


_TEXTS = {
    Reason.MISSING: "missing file",
    Reason.EMPTY: "empty file",
    Reason.NOT_AN_IMAGE: "not an image",
    Reason.BROKEN: "truncated or broken image",
    Reason.TOO_LARGE: "over 178 megapixels, not decoded",
    Reason.NOT_PERMITTED: "no permission to read it",
    Reason.NOT_FINITE: "features not finite in 16 bits",
}


class UnreadableImage(Exception):
    """An image file that cannot be used, with its reason."""

    def __init__(self, file: ImageFile, reason: Reason) -> None:
        super().__init__(file, reason)
        self.file = file
        self.reason = reason


def read_content(file: ImageFile) -> bytes:
    """The bytes of an image file.

    Raises:
        UnreadableImage: the file is missing, is a folder, or must not or cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return stream.read()
    except FileNotFoundError:
        raise UnreadableImage(file, Reason.MISSING) from None
    except PermissionError:
        raise UnreadableImage(file, Reason.NOT_PERMITTED) from None
    except IsADirectoryError:
        raise UnreadableImage(file, Reason.NOT_AN_IMAGE) from None
    except (OSError, ValueError):  # a failing disk; an impossible file name
        raise UnreadableImage(file, Reason.BROKEN) from None


def read_image(file: ImageFile, at_least: int | None = None) -> Image.Image:
    """Read and decode an image file: `read_content`, then `decode_image`."""
    return decode_image(read_content(file), file, at_least)


def decode_image(content: bytes, file: ImageFile, at_least: int | None = None) -> Image.Image:
    """Decode an image to 8-bit RGB.

    The EXIF rotation is applied. An animation gives its first frame. 16-bit grey is scaled, not clipped. Palette, CMYK
    and grey images are converted.

    Args:
        content: the file's bytes.
        file: where they come from, for the error.
        at_least: the height and width in pixels that are needed; a JPEG is decoded at the smallest of the scales 1,
            1/2, 1/4, 1/8 that has them. None for full size.

    Returns:
        An RGB image.

    Raises:
        UnreadableImage: the content is empty, not an image, broken, or larger than MAX_PIXELS.
    """
    if not content:
        raise UnreadableImage(file, Reason.EMPTY)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about size and EXIF
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadableImage(file, Reason.TOO_LARGE)
                if at_least is not None:
                    image.draft(None, (at_least, at_least))
                return as_rgb(image)
    except Image.DecompressionBombError:
        raise UnreadableImage(file, Reason.TOO_LARGE) from None
    except UnidentifiedImageError:
        raise UnreadableImage(file, Reason.NOT_AN_IMAGE) from None
    except (UnreadableImage, MemoryError):
        raise
    except Exception:  # Pillow's decoders raise many kinds on damaged data: struct.error, RuntimeError, ...
        raise UnreadableImage(file, Reason.BROKEN) from None


def as_rgb(image: Image.Image) -> Image.Image:
    """An opened image as 8-bit RGB, with its EXIF rotation applied."""
    return _upright(_to_rgb(image), image)


_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112


def _upright(decoded: Image.Image, opened: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. Pillow's exif_transpose also rewrites the tags, and fails if one is damaged."""
    try:
        orientation = opened.getexif().get(_ORIENTATION)
    except Exception:  # the pixels may be good even if the tags are damaged
        orientation = None
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return decoded if turn is None else decoded.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey opens as I;16 or I; convert("RGB") would clip it at 255
        grey = np.asarray(image).astype(np.float64)
        return Image.fromarray((np.clip(grey, 0, 65535) / 257).round().astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image).astype(np.float64))
        scale = 255.0 if grey.max(initial=0.0) <= 1.0 else 1.0
        return Image.fromarray(np.clip(grey * scale, 0, 255).round().astype(np.uint8)).convert("RGB")
    return image.convert("RGB")
