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
from labeldep_cli.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment

THUMBNAIL = 160
"""Length of a thumbnail's longer side, in pixels."""


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("labeldep_cli.reports")
    environment = Environment(
        loader=loader,
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment


def _shown(value: object) -> object:
    """A value as the page shows it: a text without hidden characters, which could turn what stands beside it."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def render(template: str, **values: object) -> str:
    """Render a template of `reports/templates`; all values are escaped, and can be written in UTF-8.

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
    return data_uri(_reduced(file, rules, side), "JPEG", quality=70)


def jpeg(file: ImageFile, rules: PixelRules, side: int) -> bytes:
    """An image of any kind as a JPEG, reduced to the given length of its longer side.

    Raises:
        UnreadableImage: the image cannot be read.
    """
    return _encoded(_reduced(file, rules, side), "JPEG", quality=85)


def _reduced(file: ImageFile, rules: PixelRules, side: int) -> Image.Image:
    image = read_image(file, rules, side)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return image


def data_uri(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> str:
    """An image as a data URI; the options go to Pillow's writer."""
    content = _encoded(image, kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()
