"""The positions of objects in `scenes`: on the ground or on a table top, in pixels of the canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from labeldep_cli.datasets.scenes.paint import HEIGHT, WIDTH, Stage

# Outdoors and in rooms: in heights of a person at the same depth. On tables: in radii of a plate.
SIZES = {
    "person": 1.0,
    "dog": 0.46,
    "ball": 0.065,
    "bat": 0.52,
    "glove": 0.13,
    "umbrella": 0.45,
    "car": 1.9,
    "traffic light": 1.6,
    "plate": 1.0,
    "fork": 1.8,
    "knife": 1.8,
    "cup": 0.75,
    "laptop": 1.0,
    "keyboard": 1.0,
    "mouse": 0.27,
    "glass": 0.85,
    "bowl": 0.7,
    "papers": 0.9,
    "plant": 0.95,
    "tree": 2.4,
    "towel": 0.5,
}
# The sizes of covers, in units of the covered object. Objects that are not listed are never covered.
COVERS = {
    "person": 0.42,
    "dog": 0.42,
    "ball": 1.2,
    "glove": 1.0,
    "car": 0.28,
    "traffic light": 0.3,
    "plate": 0.9,
    "fork": 0.33,
    "knife": 0.33,
    "cup": 0.7,
    "laptop": 0.75,
    "keyboard": 0.8,
    "mouse": 0.9,
}
CENTRED = ("ball", "glove", "plate", "fork", "knife", "keyboard", "mouse")  # the origin is their middle, not their foot

LOW_TABLE = "low table"  # not a label: in a room, cups and laptops stand on it

_FAR = 0.4  # far objects stand within this share of the ground's depth

# Positions around the plate or the sitter, in radii of a plate: to the right, towards the viewer.
_TABLE_SPOTS = {
    "plate": (0.0, 0.0),
    "fork": (-1.5, 0.1),
    "knife": (1.5, 0.1),
    "cup": (2.0, -0.7),
    "laptop": (-0.3, -0.6),
    "keyboard": (0.0, 0.75),
    "mouse": (1.6, 0.7),
}


@dataclass(frozen=True)
class Spot:
    """The position of an object.

    Attributes:
        x, y: its origin, in pixels of the canvas.
        size: its unit of length, in pixels.
        depth: row by which objects are sorted from far to near.
        angle: its rotation, radians clockwise.
        squash: vertical foreshortening, 1 for none.
    """

    x: float
    y: float
    size: float
    depth: float
    angle: float = 0.0
    squash: float = 1.0


class Layout(Protocol):
    """Chooses a position for each object; later positions may depend on earlier ones."""

    def spot(self, name: str, vague: bool = False) -> Spot:
        """A position for one more object of that name; vague objects may be placed farther away."""
        ...


class OpenLayout:
    """Objects on the ground, smaller towards the horizon; bats, gloves and umbrellas mostly in a person's hands."""

    def __init__(self, rng: np.random.Generator, stage: Stage) -> None:
        """Draw the viewpoint: a person's height grows by `_rise` pixels for each pixel below the horizon."""
        self._rng, self._stage = rng, stage
        self._rise = rng.uniform(0.75, 1.15)
        self._people: list[Spot] = []
        self._table: Spot | None = None

    def _unit(self, y: float) -> float:
        """Height in pixels of a person whose feet are on row `y`."""
        return min(175.0, 16 + (y - self._stage.horizon) * self._rise)

    def _on_ground(self, nearest: float = 1.0) -> tuple[float, float]:
        floor, depth = self._stage.floor, self._rng.uniform(0, nearest) ** 1.2
        return self._rng.uniform(0.08, 0.92) * WIDTH, floor + (HEIGHT * 0.97 - floor) * depth

    def spot(self, name: str, vague: bool = False) -> Spot:
        """A position for one more object of that name; vague objects on the ground are far away."""
        if name == "boat":
            return self._afloat()
        if name == LOW_TABLE:
            return self._low_table()
        if name in ("cup", "laptop"):
            return self._on_low_table(name)
        if name in ("bat", "glove", "umbrella") and self._people and self._rng.random() < 0.75:
            return self._in_hand(name)
        x, y = self._on_ground(_FAR if vague or name in ("car", "traffic light", "tree") else 1.0)
        size, angle = max(3.2, SIZES[name] * self._unit(y)), 0.0
        if name == "plant":
            size *= 0.5
        if name == "bat":
            angle = self._rng.uniform(0.9, 2.2) * self._rng.choice([-1, 1])
        if name == "ball" and self._rng.random() < 0.4:  # in flight
            spot = Spot(x, y - self._rng.uniform(0.3, 1.3) * self._unit(y), size, y)
        else:
            spot = Spot(x, y, size, y, angle)
        if name == "person":
            self._people.append(spot)
        return spot

    def _in_hand(self, name: str) -> Spot:
        person = self._people[int(self._rng.integers(len(self._people)))]
        side = self._rng.choice([-1, 1])
        angle = {
            "bat": side * self._rng.uniform(0.1, 2.4),
            "glove": self._rng.uniform(-0.6, 0.6),
            "umbrella": self._rng.uniform(-0.2, 0.2),
        }[name]
        x = person.x + side * self._rng.uniform(0.1, 0.24) * person.size
        y = person.y - self._rng.uniform(0.44, 0.62) * person.size
        return Spot(x, y, SIZES[name] * person.size, person.depth + 0.5, angle)

    def _afloat(self) -> Spot:
        top, foot = self._stage.horizon + 3, self._stage.floor - 12
        y = top + (foot - top) * self._rng.uniform(0, 1) ** 1.3
        return Spot(self._rng.uniform(0.06, 0.94) * WIDTH, y, 26 + (y - top) * self._rng.uniform(0.9, 1.8), y)

    def _low_table(self) -> Spot:
        """The low table of a room; the first call places it."""
        if self._table is None:
            x, y = self._rng.uniform(0.25, 0.75) * WIDTH, self._rng.uniform(0.8, 0.95) * HEIGHT
            self._table = Spot(x, y, self._rng.uniform(56, 80), y - 1)
        return self._table

    def _on_low_table(self, name: str) -> Spot:
        table = self._low_table()
        side = -0.5 if name == "cup" else 0.3
        x = table.x + (side + self._rng.uniform(-0.15, 0.15)) * table.size
        y = table.y - 0.62 * table.size + self._rng.uniform(-4, 4)
        return Spot(x, y, {"cup": 0.3, "laptop": 0.34}[name] * table.size, table.depth + 0.5)


class TableLayout:
    """Objects around a person who sits at a table, viewed at the stage's tilt."""

    def __init__(self, rng: np.random.Generator, stage: Stage) -> None:
        """Draw the sitter's position, the scale, the rotation, and whether the sitter is left- or right-handed."""
        self._rng, self._stage = rng, stage
        self._unit = rng.uniform(44, 68)
        self._turn = rng.uniform(-0.35, 0.35)
        self._hand = rng.choice([-1, 1], p=[0.2, 0.8])
        self._x = rng.uniform(0.36, 0.64) * WIDTH
        self._y = stage.floor + (HEIGHT - stage.floor) * rng.uniform(0.42, 0.66)

    def spot(self, name: str, vague: bool = False) -> Spot:
        """A position for one more object of that name; `vague` makes no difference here."""
        rng, tilt = self._rng, self._stage.tilt
        if name in _TABLE_SPOTS:
            across, towards = _TABLE_SPOTS[name]
        else:  # clutter, around the other objects
            bearing = rng.uniform(-0.3, math.pi + 0.3)
            across, towards = 2.9 * math.cos(bearing), -2.0 * math.sin(bearing)
        across, towards = across * self._hand + rng.normal(0, 0.2), towards + rng.normal(0, 0.18)
        cosine, sine = math.cos(self._turn), math.sin(self._turn)
        x = self._x + (across * cosine - towards * sine) * self._unit
        y = self._y + (across * sine + towards * cosine) * self._unit * tilt
        x, y = min(max(x, 22.0), WIDTH - 22.0), min(max(y, self._stage.floor), HEIGHT - 14.0)
        size = SIZES[name] * self._unit * rng.uniform(0.9, 1.1)
        if name in ("cup", "laptop", "glass", "bowl", "plant"):
            return Spot(x, y, size, y, rng.normal(0, 0.04))
        spread = 0.12 if name in ("plate", "keyboard") else 0.3
        return Spot(x, y, size, y, self._turn + rng.normal(0, spread), tilt)
