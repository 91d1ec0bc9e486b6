"""Pages: self-contained HTML files that include their styles, pictures and data."""

from __future__ import annotations

import base64
import io
from functools import cache
from typing import TYPE_CHECKING, Literal

from PIL import Image

from labeldep_cli import __version__
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.images import read_image
from labeldep_cli.features.pixel_rules import PixelRules

if TYPE_CHECKING:
    from jinja2 import Environment

THUMBNAIL = 160
"""Length of a thumbnail's longer side, in pixels."""


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("labeldep_cli.reports")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def render(template: str, **values: object) -> str:
    """Render a template of `reports/templates`; all values are escaped.

    Args:
        template: its file name; the template extends `page.html.j2`.
        values: the variables that the template uses.
    """
    return _environment().get_template(template).render(version=__version__, **values)


def thumbnail(file: ImageFile, rules: PixelRules, side: int = THUMBNAIL) -> str:
    """A reduced image as a data URI, to be included in a page.

    Args:
        file: the image.
        rules: how it becomes 8-bit RGB.
        side: length of the longer side in pixels; a smaller image keeps its size.

    Raises:
        UnreadableImage: the image can no longer be read.
    """
    image = read_image(file, rules, side)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return data_uri(image, "JPEG", quality=70)


def data_uri(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> str:
    """An image as a data URI; the options go to Pillow's writer."""
    stream = io.BytesIO()
    image.save(stream, format=kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
