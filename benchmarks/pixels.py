"""How far the features of a photo move when the same picture is stored in another form: more bits, transparency, bands.

Each form is written from the photo, read as `labeldep` reads it, and encoded. The distance is that to the features of
the same picture in 8 bits: 0 if the form makes no difference.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image

from benchmarks.show import Table, show
from labeldep_cli.datasets.image_file import InMemory
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.images import UnreadableImage, read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.views import cut
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.loading import load_backbone
from labeldep_cli.models.weights import locate_weights
from labeldep_cli.progress import SilentReporter

SIZE = (320, 224)


@dataclass(frozen=True)
class Form:
    """A picture in a form.

    Attributes:
        name: the form in words.
        content: the file.
        plain: the same picture in 8 bits.
        value_range: the range that a user has to name; None if the picture needs none.
    """

    name: str
    content: bytes
    plain: Image.Image
    value_range: str | None = None


def forms_of(photo: Image.Image) -> list[Form]:
    """A photo in the forms that people have.

    Args:
        photo: RGB.
    """
    rgb = np.asarray(photo)
    grey_image = photo.convert("L")
    grey = np.asarray(grey_image).astype(np.int64)
    unit = (grey / 255).astype(np.float32)
    bright = unit.copy()
    bright[0, 0] = 1.02
    is_clear = np.zeros(grey.shape, bool)
    is_clear[:, : SIZE[0] // 2] = True
    alpha = np.where(is_clear, 0, 255).astype(np.uint8)
    hidden = np.where(is_clear[..., None], np.array([255, 0, 255]), rgb).astype(np.uint8)
    white = Image.fromarray(np.where(is_clear[..., None], 255, rgb).astype(np.uint8))
    infrared = np.dstack([rgb, rgb[..., :1]])
    text = b"parameters\0\0" + zlib.compress(b"workflow " * 250_000)
    return [
        Form("grey, 16 bits", written(grey * 257, np.uint16, "PNG"), grey_image),
        Form("grey, 12 bits in 16", written(grey * 16, np.uint16, "PNG"), grey_image, "0,4080"),
        Form("grey, signed 16 bits", tiff((grey - 128) * 8, np.int16), grey_image, "-1024,1016"),
        Form("grey, 32-bit integers to 255", written(grey, np.int32, "TIFF"), grey_image, "0,255"),
        Form("grey, floats to 1", written(unit, np.float32, "TIFF"), grey_image),
        Form("grey, floats to 1, one pixel 1.02", written(bright, np.float32, "TIFF"), grey_image),
        Form("grey, floats to 255", written(grey, np.float32, "TIFF"), grey_image, "0,255"),
        Form("colour, 16 bits", png(rgb.astype(np.uint16) * 257), photo),
        Form("colour, 12 bits in 16", tiff(rgb.astype(np.int64) * 16, np.uint16), photo, "0,4080"),
        Form("half transparent over magenta", written(np.dstack([hidden, alpha]), np.uint8, "PNG"), white),
        Form("the same as WebP", written(np.dstack([hidden, alpha]), np.uint8, "WEBP", lossless=True), white),
        Form("colour and infrared", tiff(infrared.astype(np.int64), np.uint8), photo),
        Form("PNG with 2 MB of text", png(rgb, chunk(b"zTXt", text)), photo),
    ]


def written(pixels: NDArray[Any], kind: type[np.number[Any]], file_format: str, **options: bool) -> bytes:
    """Pixels as a file that Pillow writes."""
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(kind)).save(stream, file_format, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(pixels: NDArray[Any], chunks: bytes = b"") -> bytes:
    """A PNG in colour, uint8 or uint16 [H, W, 3 or 4]; Pillow writes none of 16 bits."""
    height, width, channels = pixels.shape
    bits = 8 * pixels.dtype.itemsize
    header = struct.pack(">IIBBBBB", width, height, bits, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(pixels.dtype.newbyteorder(">")))
    body = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(
    pixels: NDArray[Any],
    kind: type[np.number[Any]],
    alpha: Literal[0, 1, 2] = 0,
    min_is_white: bool = False,
    order: Literal["<", ">"] = "<",
    layout: Literal["pixels", "bands", "deflated"] = "pixels",
) -> bytes:
    """A TIFF, [H, W] or [H, W, bands]; Pillow writes no signed numbers and no infrared.

    Args:
        pixels: numbers that fit `kind`.
        kind: their type in the file.
        alpha: a fourth band is of no stated meaning (0), alpha that the colours are multiplied by (1), or alpha (2).
        min_is_white: whether the lowest value is white.
        order: "<" for little-endian, ">" for big-endian.
        layout: pixel by pixel, band by band, or pixel by pixel and compressed.
    """
    height, width = pixels.shape[:2]
    bands = pixels.size // (height * width)
    stored = pixels.astype(np.dtype(kind).newbyteorder(order))
    parts = [stored[..., band].tobytes() for band in range(bands)] if layout == "bands" else [stored.tobytes()]
    parts = [zlib.compress(part) for part in parts] if layout == "deflated" else parts
    data = b"".join(parts)
    number = {"u": 1, "i": 2, "f": 3}[np.dtype(kind).kind]
    photometric = 2 if bands >= 3 else int(not min_is_white)
    tags: list[tuple[int, str, list[int]]] = [
        (256, "H", [width]),
        (257, "H", [height]),
        (258, "H", [8 * np.dtype(kind).itemsize] * bands),
        (259, "H", [8 if layout == "deflated" else 1]),
        (262, "H", [photometric]),
        (273, "I", [8 + sum(map(len, parts[:k])) for k in range(len(parts))]),
        (277, "H", [bands]),
        (278, "H", [height]),
        (279, "I", [len(part) for part in parts]),
        (284, "H", [2 if layout == "bands" else 1]),
        (338, "H", [alpha] * (bands - 3)),
        (339, "H", [number] * bands),
    ]
    tags = [tag for tag in tags if tag[2]]
    offset = 8 + len(data)
    place = offset + 2 + 12 * len(tags) + 4
    entries, more = b"", b""
    for tag, letter, values in tags:
        value = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(value) > 4:
            value, more = struct.pack(f"{order}I", place + len(more)), more + value
        entries += struct.pack(f"{order}HHI", tag, 3 if letter == "H" else 4, len(values)) + value.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, offset)
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + more


def command(
    photo: Annotated[Path, typer.Argument(help="A colour photo.")],
    backbone: Annotated[str, typer.Option(help="Backbone.")] = "squeezenet1_1",
    weights: Annotated[str, typer.Option(help="Its weights: default, none or a PATH.")] = "default",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The distance of features of a photo in many forms to those of the same picture in 8 bits."""
    with Image.open(photo) as opened:
        forms = forms_of(opened.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS))
    row = find_backbone(backbone)
    network = load_backbone(row, locate_weights(row, weights), SilentReporter()).module
    encoder = Encoder(network, row.mean, row.std).eval()
    found = {form.name: _distances(form, encoder, row.framing) for form in forms}
    rows = [[name, *(_shown(one[key]) for key in ("without_range", "with_range"))] for name, one in found.items()]
    title = f"cosine distance of {backbone} features to those of the same picture in 8 bits"
    show(found, [Table(title, ("form", "no range named", "with --value-range"), rows)], json)


@torch.inference_mode()
def _distances(form: Form, encoder: Encoder, framing: Framing) -> dict[str, float | str | None]:
    """The distance without and with the form's range; the reason if it is refused, None if it needs no range."""

    def features(image: Image.Image) -> torch.Tensor:
        encoded: torch.Tensor = encoder(torch.from_numpy(cut(image.convert("RGB"), (0,), framing)))
        return encoded[0].double()

    def distance(value_range: str | None) -> float | str:
        try:
            seen = features(read_image(InMemory(form.content), PixelRules(value_range)))
        except UnreadableImage as unreadable:
            return unreadable.reason.text
        return 1 - float(torch.cosine_similarity(seen, features(form.plain), dim=0))

    return {
        "without_range": distance(None),
        "with_range": None if form.value_range is None else distance(form.value_range),
    }


def _shown(distance: float | str | None) -> str:
    if distance is None:
        return ""
    return "refused" if isinstance(distance, str) else f"{abs(distance):.4f}"
