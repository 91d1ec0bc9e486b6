"""How the data set `scenes` is drawn: pictures of places, with labels that depend on each other.

An image is drawn in four steps. All random numbers come from `np.random.default_rng([seed, index])`.

1. An activity is drawn (a game on a field, rain in a street, a meal at a table, ...). It fixes the place and the base
   probability of each label.
2. Labels are drawn one after the other, in the order of LABELS. Each earlier label raises the log-odds of the next
   one if it is present and lowers them if it is absent (PULLS): a fork suggests a knife, a glove suggests a bat. No
   image is without labels.
3. Objects get positions in depth and are drawn from far to near. An object may be drawn *vague*, which means without
   its typical details, or be partly covered. A *decoy* is the same vague drawing for a label that is absent: a pale
   dot on the grass is a ball or a flower, a stick is a bat or a branch, a pale bar is a fork or a spoon. Its look alone
   does not tell which; the other objects do, as for the baseball bat in Fig. 2 of the paper.
4. Light and camera: time of day, vignette, blur, noise.

The labels are the placed objects, visible or not. The drawings of objects are in `objects` and `decoys`, those of empty
places in `backdrops`, the positions in `layout`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from labeldep_cli.datasets.scenes.backdrops import BACKDROPS
from labeldep_cli.datasets.scenes.decoys import CLUTTER, VAGUE_BRUSHES, cloth, crate, tuft
from labeldep_cli.datasets.scenes.layout import CENTRED, COVERS, LOW_TABLE, Layout, OpenLayout, TableLayout
from labeldep_cli.datasets.scenes.objects import BRUSHES
from labeldep_cli.datasets.scenes.paint import DAYLIGHTS, ROOMLIGHTS, Light, Pen, Stage

LABELS: tuple[str, ...] = (
    "person",
    "dog",
    "ball",
    "bat",
    "glove",
    "umbrella",
    "boat",
    "car",
    "traffic light",
    "plate",
    "fork",
    "knife",
    "cup",
    "laptop",
    "keyboard",
    "mouse",
)
IMAGE_SIZE = (192, 144)  # width, height
DATASET_SEED = 0  # the data set's own images
PRETRAINING_SEED = 1  # images to train ScenesNet on; different from the data set's

VAGUE_RATE = 0.22  # probability that a placed object is drawn vague
DECOY_RATE = 0.15  # probability of a decoy for an absent label that is possible in the place
COVER_RATE = 0.18  # probability that an object is partly covered


@dataclass(frozen=True)
class Activity:
    """A place, the weight of the activity, and the probability of each possible label before the others' effect."""

    place: str
    weight: float
    odds: dict[str, float]


ACTIVITIES = (
    Activity("beach", 0.08, {"person": 0.85, "dog": 0.35, "ball": 0.5, "umbrella": 0.6, "boat": 0.4}),
    Activity("beach", 0.07, {"person": 0.5, "dog": 0.25, "ball": 0.05, "umbrella": 0.05, "boat": 0.94}),
    Activity("lake", 0.07, {"person": 0.6, "dog": 0.45, "boat": 0.7}),
    Activity("field", 0.15, {"person": 0.95, "dog": 0.04, "ball": 0.82, "bat": 0.78, "glove": 0.75}),
    Activity("field", 0.08, {"person": 0.65, "dog": 0.75, "ball": 0.45, "bat": 0.05, "glove": 0.05, "umbrella": 0.1}),
    Activity("street", 0.10, {"person": 0.5, "dog": 0.15, "umbrella": 0.05, "car": 0.93, "traffic light": 0.75}),
    Activity("street", 0.08, {"person": 0.9, "dog": 0.1, "umbrella": 0.87, "car": 0.7, "traffic light": 0.5}),
    Activity("kitchen", 0.15, {"plate": 0.93, "fork": 0.8, "knife": 0.76, "cup": 0.6, "laptop": 0.02}),
    Activity("kitchen", 0.06, {"plate": 0.45, "fork": 0.12, "knife": 0.12, "cup": 0.92, "laptop": 0.3}),
    Activity("desk", 0.10, {"cup": 0.6, "laptop": 0.94, "keyboard": 0.2, "mouse": 0.7}),
    Activity("desk", 0.10, {"cup": 0.5, "laptop": 0.18, "keyboard": 0.93, "mouse": 0.88}),
    Activity("living room", 0.08, {"person": 0.7, "dog": 0.55, "ball": 0.3, "cup": 0.6, "laptop": 0.55}),
)

PULLS: dict[tuple[str, str], float] = {
    ("person", "dog"): 0.3,
    ("dog", "ball"): 0.8,
    ("person", "bat"): 0.6,
    ("ball", "bat"): 0.8,
    ("ball", "glove"): 0.6,
    ("bat", "glove"): 1.0,
    ("person", "umbrella"): 0.8,
    ("person", "boat"): -0.3,
    ("car", "traffic light"): 0.8,
    ("umbrella", "car"): -0.3,
    ("plate", "fork"): 0.8,
    ("plate", "knife"): 0.5,
    ("fork", "knife"): 1.4,
    ("plate", "cup"): 0.3,
    ("cup", "laptop"): 0.3,
    ("laptop", "keyboard"): -0.3,
    ("laptop", "mouse"): 0.5,
    ("keyboard", "mouse"): 1.0,
}

_CLUTTER = {
    "beach": ("towel",),
    "lake": ("tree", "tree"),
    "field": ("tree",),
    "street": ("tree", "tree"),
    "kitchen": ("glass", "bowl", "plant"),
    "desk": ("papers", "papers", "plant"),
    "living room": ("plant",),
}
_SPARES = (("person", 2), ("car", 2), ("boat", 1))  # labels that may be drawn more than once, and how many times more
_SHARP_BRUSHES = {**BRUSHES, **CLUTTER}
_FROM_MIDDLE = np.add.outer(
    np.linspace(-1, 1, IMAGE_SIZE[1]) ** 2 / 2, np.repeat(np.linspace(-1, 1, IMAGE_SIZE[0]) ** 2 / 2, 3)
).astype(np.float32)


def draw(seed: int, index: int) -> tuple[Image.Image, NDArray[np.int8]]:
    """Draw one scene; the same arguments give the same bytes in any process.

    Args:
        seed: DATASET_SEED for the images of the data set; any other seed gives other images.
        index: number of the image, from 0.

    Returns:
        RGB image of IMAGE_SIZE, and its labels, int8 [L], 1 for a placed label.
    """
    rng = np.random.default_rng([seed, index])
    activity = ACTIVITIES[_choose(rng, [each.weight for each in ACTIVITIES])]
    labels = _draw_labels(rng, activity)
    lights = ROOMLIGHTS if activity.place in ("kitchen", "desk", "living room") else DAYLIGHTS
    light = lights[int(rng.integers(len(lights)))]
    stage = BACKDROPS[activity.place](rng, light)
    _furnish(rng, stage, activity, [name for name, here in zip(LABELS, labels, strict=True) if here])
    return _develop(rng, stage.canvas, light), labels


def _choose(rng: np.random.Generator, weights: list[float]) -> int:
    return int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights), side="right"))


def _draw_labels(rng: np.random.Generator, activity: Activity) -> NDArray[np.int8]:
    """Labels [L] by step 2 of the module's text; drawn again as long as none is present."""
    labels = np.zeros(len(LABELS), np.int8)
    while not labels.any():
        for position, name in enumerate(LABELS):
            odds = activity.odds.get(name)
            if odds is None:
                continue
            logit = math.log(odds / (1 - odds))
            for earlier, other in enumerate(LABELS[:position]):
                if other in activity.odds:
                    logit += PULLS.get((other, name), 0.0) * (1 if labels[earlier] else -1)
            labels[position] = rng.random() < 1 / (1 + math.exp(-logit))
    return labels


def _furnish(rng: np.random.Generator, stage: Stage, activity: Activity, present: list[str]) -> None:
    """Place and draw objects, decoys, clutter and covers, from far to near."""
    decoys = [name for name in activity.odds if name not in present and rng.random() < DECOY_RATE]
    crowd = [name for name, spare in _SPARES for _ in range(spare) if name in present and rng.random() < 0.35]
    things = [(name, rng.random() < VAGUE_RATE) for name in present + crowd] + [(name, True) for name in decoys]
    on_table = activity.place in ("kitchen", "desk")
    layout: Layout = TableLayout(rng, stage) if on_table else OpenLayout(rng, stage)
    things += [(name, False) for name in _CLUTTER[activity.place] if rng.random() < 0.45]
    placed = [(layout.spot(name, vague), name, vague) for name, vague in things]
    if activity.place == "living room" and any(name in ("cup", "laptop") for name, _ in things):
        placed.append((layout.spot(LOW_TABLE), LOW_TABLE, False))
    cover = cloth if on_table else tuft if activity.place in ("field", "lake") else crate
    for spot, name, vague in sorted(placed, key=lambda each: each[0].depth):
        brush, scale = (VAGUE_BRUSHES if vague else _SHARP_BRUSHES)[name], 1.9 if vague and name == "glove" else 1.0
        mirror = -1 if rng.random() < 0.5 else 1
        brush(Pen(stage.canvas, spot.x, spot.y, spot.size * scale, spot.angle, spot.squash, mirror), rng)
        if name in COVERS and rng.random() < COVER_RATE:
            size = max(7.0, COVERS[name] * spot.size)
            foot = spot.y + (0.5 * size * spot.squash if name in CENTRED else 0.04 * size)
            cover(Pen(stage.canvas, spot.x + rng.normal(0, 0.35) * size, foot, size, 0.0, spot.squash), rng)


def _develop(rng: np.random.Generator, canvas: Image.Image, light: Light) -> Image.Image:
    """The final image: the canvas reduced to IMAGE_SIZE, with the time of day's light, blur, vignette and noise."""
    small = canvas.reduce(2)
    if rng.random() < 0.3:
        small = small.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.7)))
    pixels = np.asarray(small, np.float32).reshape(IMAGE_SIZE[1], -1)  # [144, 192 * 3]
    gain = np.tile(np.array(light.gain, np.float32) * np.float32(rng.uniform(0.84, 1.12)), IMAGE_SIZE[0])
    mean, contrast = pixels.mean(), np.float32(rng.uniform(0.8, 1.1))
    pixels = ((pixels - mean) * contrast + mean) * (1 - np.float32(rng.uniform(0, 0.3)) * _FROM_MIDDLE) * gain
    pixels += rng.standard_normal(pixels.shape, dtype=np.float32) * np.float32(rng.uniform(1.5, 6))
    pixels = np.clip(pixels, 0, 255).astype(np.uint8)
    return Image.fromarray(pixels.reshape(IMAGE_SIZE[1], IMAGE_SIZE[0], 3))
