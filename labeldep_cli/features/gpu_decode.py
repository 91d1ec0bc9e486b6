"""JPEGs decoded by a GPU (nvJPEG) and resized there; all other images by the CPU.

Worker processes read the files. A JPEG that nvJPEG decodes as Pillow does, up to rounding, passes through as bytes.
What it may decode otherwise is decoded by the worker: grey and CMYK images, RGB stored as such, files that end early,
other formats. An image that nvJPEG refuses is decoded by this process.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.decode import Decoded, Images, Item, ReadImage, Row, collated, in_workers
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.images import MAX_PIXELS, UnreadableImage, decode_image, orientation_of
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.resize import resized
from labeldep_cli.features.views import crop_box, cut

_PIXELS = 2**26
"""Pixels that are decoded together: 200 MB of the GPU's memory."""

_END = b"\xff\xd9"


class Jpeg(NamedTuple):
    """A JPEG for the GPU.

    Attributes:
        content: the bytes of the file.
        file: where they come from.
        views: the requested ones.
        orientation: the EXIF tag, 1 if there is none.
        pixels: their number.
    """

    content: bytes
    file: ImageFile
    views: tuple[int, ...]
    orientation: int
    pixels: int


class _Coded(NamedTuple):
    """A batch of which JPEGs are still coded: `rest` has zeros in their place."""

    rest: Decoded
    jpegs: tuple[Jpeg | None, ...]


class _CodedImages(Images[Row]):
    """Leaves JPEGs for the GPU, and decodes other images."""

    def _views(  # type: ignore[override]  # read by `_coded` alone
        self, content: bytes, file: ImageFile, views: tuple[int, ...]
    ) -> Jpeg | NDArray[np.uint8]:
        return jpeg_for_gpu(content, file, views) or super()._views(content, file, views)


def jpeg_for_gpu(content: bytes, file: ImageFile, views: tuple[int, ...]) -> Jpeg | None:
    """A JPEG that nvJPEG decodes as Pillow does; None for any other image."""
    if not content.rstrip(b"\0").endswith(_END):  # nvJPEG would fill the rest of a file that ends early
        return None
    with suppress(Exception), warnings.catch_warnings():  # what Pillow does not open is for the CPU to refuse
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(content)) as image:
            stored_as_rgb = image.info.get("adobe_transform") == 0
            if image.format == "JPEG" and image.mode == "RGB" and not stored_as_rgb:
                pixels = image.width * image.height
                if pixels <= MAX_PIXELS:
                    return Jpeg(content, file, views, orientation_of(image), pixels)
    return None


def _coded(items: list[ReadImage]) -> _Coded:
    """A batch of items of `_CodedImages`."""
    jpegs = tuple(image if isinstance(image, Jpeg) else None for image, _, _ in items)
    rest = [(None if jpeg else image, reason, who) for (image, reason, who), jpeg in zip(items, jpegs, strict=True)]
    return _Coded(collated(rest), jpegs)


def decode_on_gpu(
    file: Callable[[Row], ImageFile],
    batches: Iterable[Sequence[Item[Row]]],
    framing: Framing,
    rules: PixelRules,
    workers: int,
    ahead: int,
    device: torch.device,
    identify: bool = False,
) -> Iterator[Decoded]:
    """Decode batches of images by a GPU, in the given order.

    Args:
        file, batches, framing, rules, workers, ahead, identify: as for `decode`.
        device: the GPU.

    Yields:
        One `Decoded` for each batch, with images on the GPU.

    Raises:
        LabeldepError: the device is no CUDA GPU, or nvJPEG does not work there.
        StorageError: a worker was killed.
    """
    require_nvjpeg(device)
    require_stretch(framing)
    items = _CodedImages(file, framing, rules, draft=False, identify=identify)
    for coded in in_workers(items, _coded, batches, workers, False, ahead):
        yield _decoded(coded, framing, rules, device)


def decode_on_gpu_here(
    file: Callable[[Row], ImageFile],
    batch: Sequence[Item[Row]],
    framing: Framing,
    rules: PixelRules,
    device: torch.device,
) -> Decoded:
    """Decode one batch without workers, immediately; arguments and errors as those of `decode_on_gpu`."""
    require_nvjpeg(device)
    require_stretch(framing)
    items = _CodedImages(file, framing, rules, draft=False, identify=False)
    return _decoded(_coded([items[item] for item in batch]), framing, rules, device)


def require_nvjpeg(device: torch.device) -> None:
    """Refuse a device that does not decode JPEGs; a small one is decoded to find out.

    Raises:
        LabeldepError: the device is no CUDA GPU, or nvJPEG does not work there.
    """
    remedy = "Use --device cuda, or have the CPU decode: --decode cpu, whose features and runs are others."
    if device.type != "cuda":
        raise LabeldepError(f"a GPU is to decode JPEGs (--decode gpu), but the device is {device}", remedy)
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG")
    try:
        nvjpeg([buffer.getvalue()], device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # no nvJPEG in this torchvision, or no torchvision.io.decode_jpeg any more
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise LabeldepError(f"nvJPEG (--decode gpu) does not work on {device}: {first_line}", remedy) from error


def require_stretch(framing: Framing) -> None:
    """Refuse a framing that the device does not make.

    Raises:
        LabeldepError: it is not the whole image, scaled by the bilinear filter.
    """
    if framing != Framing(framing.side):
        raise LabeldepError(
            f"--decode gpu scales whole images by the bilinear filter, and this backbone takes: {framing.words}",
            "Leave --decode out, or use a backbone with --resize stretch and that filter.",
        )


def nvjpeg(contents: Sequence[bytes], device: torch.device) -> list[Tensor]:
    """Decode JPEGs of 3 channels on a GPU: uint8 [3, H, W] each, not turned upright. RuntimeError if one fails."""
    from torchvision.io import ImageReadMode, decode_jpeg

    coded = [torch.frombuffer(bytearray(content), dtype=torch.uint8) for content in contents]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's advice to use another package
        images: list[Tensor] = decode_jpeg(coded, mode=ImageReadMode.RGB, device=device)
    return images


@torch.no_grad()
def _decoded(coded: _Coded, framing: Framing, rules: PixelRules, device: torch.device) -> Decoded:
    """Decode the JPEGs of a batch, and put their views in their places."""
    rest, jpegs = coded
    found = [(k, jpeg) for k, jpeg in enumerate(jpegs) if jpeg is not None]
    if not found:
        return Decoded(rest.images.to(device), rest.reasons, rest.identities)
    images, reasons = rest.images.to(device), rest.reasons.clone()
    if not images.numel():
        shape = (len(found[0][1].views), len(jpegs), framing.side, framing.side, 3)
        images = torch.zeros(shape, dtype=torch.uint8, device=device).permute(1, 0, 4, 2, 3)
    for part in _together(found):
        pixels = _pixels([jpeg for _, jpeg in part], device)
        for (k, jpeg), image in zip(part, pixels, strict=True):
            if image is not None:
                images[k] = cut_on_device(upright(image, jpeg.orientation), jpeg.views, framing)
                continue
            try:
                by_cpu = cut(decode_image(jpeg.content, jpeg.file, rules), jpeg.views, framing)
                images[k] = torch.from_numpy(by_cpu).to(device)
            except UnreadableImage as unreadable:
                reasons[k] = int(unreadable.reason)
    if reasons.all():
        return Decoded(torch.zeros(0, dtype=torch.uint8), reasons, rest.identities)
    return Decoded(images, reasons, rest.identities)


def _together(jpegs: Iterable[tuple[int, Jpeg]]) -> Iterator[list[tuple[int, Jpeg]]]:
    """Cut a batch into parts of at most `_PIXELS`, or of a single image."""
    part: list[tuple[int, Jpeg]] = []
    for place in jpegs:
        if part and sum(jpeg.pixels for _, jpeg in (*part, place)) > _PIXELS:
            yield part
            part = []
        part.append(place)
    if part:
        yield part


def _pixels(jpegs: Sequence[Jpeg], device: torch.device) -> list[Tensor | None]:
    """The decoded images; None for one that nvJPEG refuses. It gives none of a list if one fails."""
    try:
        return [*nvjpeg([jpeg.content for jpeg in jpegs], device)]
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return [None] if len(jpegs) == 1 else [image for jpeg in jpegs for image in _pixels([jpeg], device)]


def upright(image: Tensor, orientation: int) -> Tensor:
    """Apply the EXIF orientation, 1..8, to an image [3, H, W]."""
    turned = image.transpose(1, 2) if orientation >= 5 else image  # rows are columns
    sides = {2: (2,), 3: (1, 2), 4: (1,), 6: (2,), 7: (1, 2), 8: (1,)}.get(orientation, ())
    return turned.flip(sides) if sides else turned


def cut_on_device(image: Tensor, views: tuple[int, ...], framing: Framing) -> Tensor:
    """The same views as `views.cut`, of an image [3, H, W] on a device: uint8 [V, 3, side, side]."""
    larger = framing.for_crops.side
    scaled = resized(image, larger, larger) if any(views) else image
    return torch.stack([_view(image, scaled, view, framing.side) for view in views])


def _view(image: Tensor, scaled: Tensor, view: int, side: int) -> Tensor:
    if view == 0:
        return resized(image, side, side)
    left, top, right, bottom = crop_box(view, scaled.shape[1])
    return resized(scaled[:, top:bottom, left:right], side, side)
