"""Thumbnails of many images within a size limit."""

from __future__ import annotations

from collections.abc import Sequence

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.progress import Reporter
from labeldep_cli.reports.page import thumbnail

SIDES = (160, 128, 96, 64)
"""Lengths of a thumbnail's longer side in pixels. The largest at which all images fit is used, else the smallest."""

_SAMPLE = 16  # images whose size is measured to choose among them


def thumbnails(files: Sequence[ImageFile], rules: PixelRules, budget: int, reporter: Reporter) -> list[str]:
    """Make thumbnails of as many images as fit, in order.

    Args:
        files: the images, the most important first.
        rules: how they become 8-bit RGB.
        budget: maximum length of all data URIs together, in characters.
        reporter: shows progress.

    Returns:
        Data URIs of the first images. There are fewer than `files` if not all fit even at the smallest size. The URI of
        an image that can no longer be read is empty.
    """
    sample = files[:: max(len(files) // _SAMPLE, 1)]
    side = next((side for side in SIDES if _mean_size(sample, rules, side) * len(files) <= budget), SIDES[-1])
    uris: list[str] = []
    used = 0
    with reporter.bar("thumbnails", len(files), "images") as bar:
        for file in files:
            uri = _uri(file, rules, side)
            used += len(uri)
            if used > budget:
                break
            uris.append(uri)
            bar.advance()
    return uris


def _mean_size(sample: Sequence[ImageFile], rules: PixelRules, side: int) -> float:
    return sum(len(_uri(file, rules, side)) for file in sample) / max(len(sample), 1)


def _uri(file: ImageFile, rules: PixelRules, side: int) -> str:
    try:
        return thumbnail(file, rules, side)
    except UnreadableImage:
        return ""
