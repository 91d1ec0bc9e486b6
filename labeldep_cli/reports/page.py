"""Pages: HTML files that stand alone, their style, pictures and numbers inside."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Literal

from PIL import Image

from labeldep_cli import __version__
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import read_image

if TYPE_CHECKING:
    from jinja2 import Environment

THUMBNAIL = 160
"""Pixels of a thumbnail's longer side."""


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("labeldep_cli.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, **values: object) -> str:
    """Fill in a template of `reports/templates`; all that is filled in is escaped.

    Args:
        template: its file name; it extends `page.html.j2`.
        values: what it names.
    """
    return _environment().get_template(template).render(version=__version__, **values)


def thumbnail(file: ImageFile, side: int = THUMBNAIL) -> str:
    """An image made small, as a data URI that a page holds in itself.

    Args:
        file: the image.
        side: pixels of its longer side; a smaller image keeps its size.

    Raises:
        UnreadableImage: it can no longer be read.
    """
    image = read_image(file, side)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return data_uri(image, "JPEG", quality=70)


def data_uri(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> str:
    """An image within a URI; the options are those of Pillow's writer."""
    stream = io.BytesIO()
    image.save(stream, format=kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
