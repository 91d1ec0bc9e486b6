"""The tools for drawing `scenes`: colours, lights, smooth fields and the pen.

Fields are numpy arrays [3, 144, 192] with half the canvas's sides, for everything without hard edges. Hard edges are
drawn on the full canvas.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 384, 288  # of the canvas: twice the image's sides, reduced at the end to smooth edges

Colour = tuple[int, int, int]
Field = NDArray[np.floating[Any]]  # float32, except where numpy promotes to float64
Paint = Field | Colour

_HALF = (WIDTH // 2, HEIGHT // 2)
ROW = np.linspace(0, 1, _HALF[1], dtype=np.float32)[:, None]  # [144, 1], 0 at the top
COLUMN = np.linspace(0, 1, _HALF[0], dtype=np.float32)[None, :]  # [1, 192], 0 at the left

CLOTHES: tuple[Colour, ...] = (
    (60, 76, 120),
    (170, 56, 52),
    (220, 218, 212),
    (50, 52, 58),
    (84, 122, 92),
    (206, 160, 70),
    (130, 130, 138),
)
STEEL: tuple[Colour, ...] = ((190, 192, 196), (168, 170, 174), (206, 204, 196))
DARK: tuple[Colour, ...] = ((44, 44, 48), (66, 66, 70), (30, 32, 38))


@dataclass(frozen=True)
class Light:
    """A time of day: the sky's colours, the gain (r, g, b) that multiplies the image, and whether lamps are lit."""

    sky_top: Colour
    sky_low: Colour
    gain: tuple[float, float, float]
    lamps: bool = False


DAYLIGHTS = (
    Light((74, 130, 205), (190, 215, 235), (1.0, 1.0, 1.0)),
    Light((110, 165, 225), (225, 235, 240), (1.05, 1.03, 0.97)),
    Light((150, 158, 168), (205, 208, 212), (0.86, 0.9, 0.94)),
    Light((88, 92, 150), (246, 176, 120), (1.0, 0.82, 0.68)),
    Light((34, 40, 76), (112, 100, 132), (0.76, 0.8, 0.95), lamps=True),
)
ROOMLIGHTS = (
    Light((150, 190, 230), (225, 235, 240), (1.0, 1.0, 1.0)),
    Light((170, 190, 210), (220, 225, 230), (0.9, 0.96, 1.03)),
    Light((90, 100, 150), (240, 190, 140), (1.08, 0.95, 0.76)),
    Light((20, 26, 50), (50, 50, 80), (0.86, 0.77, 0.62), lamps=True),
)


@dataclass(frozen=True)
class Stage:
    """A drawn backdrop, and where objects may stand on it.

    Attributes:
        canvas: RGB image, 384 x 288.
        horizon: row of the eye level outdoors, or of the far edge of the surface indoors.
        floor: first row on which objects stand (behind it: water, wall or far ground).
        tilt: height over width of a circle on the surface; 1 when viewed vertically from above.
    """

    canvas: Image.Image
    horizon: float
    floor: float
    tilt: float


def vary(rng: np.random.Generator, colour: Colour, spread: float = 14) -> Colour:
    """A colour near the given one; `spread` in levels of 255."""
    shift = rng.normal(0, spread * 0.5) + rng.normal(0, spread * 0.5, 3)
    red, green, blue = (int(min(255, max(0, level + delta))) for level, delta in zip(colour, shift, strict=True))
    return red, green, blue


def tone(colour: Colour, factor: float) -> Colour:
    """A darker colour (factor below 1) or a lighter one (above 1)."""
    return (min(255, int(colour[0] * factor)), min(255, int(colour[1] * factor)), min(255, int(colour[2] * factor)))


def pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    """A random one of the colours, varied."""
    return vary(rng, colours[int(rng.integers(len(colours)))])


def noise(rng: np.random.Generator, wide: int, high: int) -> Field:
    """Smooth noise [144, 192], interpolated from `wide` x `high` knots of unit variance."""
    knots = Image.fromarray(rng.standard_normal((high, wide), dtype=np.float32))
    return np.asarray(knots.resize(_HALF, Image.Resampling.BILINEAR))


def fill(colour: Colour) -> Field:
    """The colour as a field [3, 1, 1]."""
    return np.array(colour, np.float32).reshape(3, 1, 1)


def mix(under: Paint, over: Paint, share: Field) -> Field:
    """Lay `over` on `under` where `share` [144, 192] (or broadcastable) is 1."""
    base = fill(under) if isinstance(under, tuple) else under
    mixed = (fill(over) if isinstance(over, tuple) else over) - base
    mixed = mixed * np.clip(share, 0, 1)
    mixed += base
    return mixed


def to_canvas(field: Field) -> Image.Image:
    """The RGB canvas, 384 x 288, of a field with values in 0..255."""
    pixels = np.clip(field, 0, 255).astype(np.uint8)
    small = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return small.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)


def below(edge: float) -> Field:
    """A share for `mix`, [144, 1]: at least 1 below row `edge` (a fraction of the height), at most 0 above it."""
    return (ROW - edge) * 160


_CIRCLE = tuple((math.cos(step * math.tau / 18), math.sin(step * math.tau / 18)) for step in range(18))


_SOFT = Image.radial_gradient("L").point([max(0, int(150 - level * 0.85)) for level in range(256)])


class Pen:
    """Draws on a canvas in the frame of one object.

    Args:
        canvas: RGB image to draw on.
        x, y: the object's origin, in pixels of the canvas.
        size: pixels per unit.
        angle: rotation of the object, radians clockwise.
        squash: vertical foreshortening, 1 for none; applied after the rotation.
        mirror: -1 swaps left and right.
    """

    def __init__(
        self,
        canvas: Image.Image,
        x: float,
        y: float,
        size: float,
        angle: float = 0.0,
        squash: float = 1.0,
        mirror: int = 1,
    ) -> None:
        """Store the frame; see the class."""
        self.canvas, self.x, self.y, self.size, self.squash = canvas, x, y, size, squash
        self._draw = ImageDraw.Draw(canvas)
        cosine, sine = math.cos(angle) * size, math.sin(angle) * size
        self._across = (cosine * mirror, sine * mirror * squash)
        self._down = (-sine, cosine * squash)

    def shape(self, colour: Colour, *points: tuple[float, float]) -> None:
        """Fill a polygon."""
        (a, b), (c, d) = self._across, self._down
        self._draw.polygon([(self.x + a * u + c * v, self.y + b * u + d * v) for u, v in points], colour)

    def oval(self, colour: Colour, u: float, v: float, wide: float, high: float) -> None:
        """Fill an ellipse with half axes `wide` and `high`."""
        self.shape(colour, *((u + wide * cosine, v + high * sine) for cosine, sine in _CIRCLE))

    def bar(
        self, colour: Colour, start: tuple[float, float], end: tuple[float, float], width: float, taper: float = 1.0
    ) -> None:
        """Draw a straight bar, `width` wide at its start and `taper * width` wide at its end."""
        across, along = end[0] - start[0], end[1] - start[1]
        length = math.hypot(across, along) or 1.0
        nu, nv = -along / length * width / 2, across / length * width / 2
        self.shape(
            colour,
            (start[0] + nu, start[1] + nv),
            (end[0] + nu * taper, end[1] + nv * taper),
            (end[0] - nu * taper, end[1] - nv * taper),
            (start[0] - nu, start[1] - nv),
        )

    def shadow(self, wide: float, high: float, v: float = 0.0, u: float = 0.06) -> None:
        """Draw a soft shadow under the object."""
        half_wide, half_high = max(2, int(wide * self.size)), max(1, int(high * self.size * self.squash))
        mask = _SOFT.resize((2 * half_wide, 2 * half_high), Image.Resampling.NEAREST)
        corner = (int(self.x + u * self.size) - half_wide, int(self.y + v * self.size * self.squash) - half_high)
        self.canvas.paste((24, 22, 26), corner, mask)


Brush = Callable[[Pen, np.random.Generator], None]
