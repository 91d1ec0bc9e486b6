"""Thumbnails of many images within a given number of bytes."""

from __future__ import annotations

from collections.abc import Sequence

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.progress import Reporter
from labeldep_cli.reports.page import thumbnail

SIDES = (160, 128, 96, 64)
"""Pixels of a thumbnail's longer side: the largest is taken with which all images fit, else the smallest."""

_SAMPLE = 16


def thumbnails(files: Sequence[ImageFile], budget: int, reporter: Reporter) -> list[str]:
    """Make images small, as many as fit, in order.

    Args:
        files: the images, the most wanted first.
        budget: characters of all data URIs together.
        reporter: shows progress.

    Returns:
        Data URIs of the first images; fewer than `files` where not even the smallest of all fit. Empty for an image
        that can no longer be read.
    """
    sample = files[:: max(len(files) // _SAMPLE, 1)]
    side = next((side for side in SIDES if _mean_size(sample, side) * len(files) <= budget), SIDES[-1])
    made: list[str] = []
    used = 0
    with reporter.bar("thumbnails", len(files), "images") as bar:
        for file in files:
            uri = _uri(file, side)
            used += len(uri)
            if used > budget:
                break
            made.append(uri)
            bar.advance()
    return made


def _mean_size(sample: Sequence[ImageFile], side: int) -> float:
    return sum(len(_uri(file, side)) for file in sample) / max(len(sample), 1)


def _uri(file: ImageFile, side: int) -> str:
    try:
        return thumbnail(file, side)
    except UnreadableImage:
        return ""
