"""The empty places of the data set `scenes`: sky, ground, walls and furniture, before any labelled object is drawn.

Heights called horizon, edge, shore, base or top are fractions of the canvas in fields, and pixels elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import ImageDraw

from labeldep_cli.datasets.scenes.paint import (
    COLUMN,
    HEIGHT,
    ROW,
    WIDTH,
    Colour,
    Field,
    Light,
    Stage,
    below,
    fill,
    mix,
    noise,
    pick,
    to_canvas,
    tone,
    vary,
)


def _sky(rng: np.random.Generator, light: Light, horizon: float) -> Field:
    sky = mix(vary(rng, light.sky_top, 10), vary(rng, light.sky_low, 10), ROW / horizon)
    clouds = noise(rng, 7, 9) + 0.5 * noise(rng, 24, 30) - rng.uniform(0.2, 1.6)
    return mix(sky, tone(light.sky_low, 1.12), 0.8 * clouds)


def _ground(rng: np.random.Generator, far: Colour, near: Colour, horizon: float, grain: float) -> Field:
    """Ground with the colour `far` at the horizon and `near` at the lower edge; its grain is stronger when nearer."""
    depth: Field = np.clip((ROW - horizon) / (1 - horizon), 0, 1)
    ground = mix(far, near, depth)
    speckle: Field = noise(rng, 12, 40) * 0.7 + noise(rng, WIDTH // 2, HEIGHT // 2) * 0.6
    return ground + grain * (0.3 + depth) * speckle


def _ridge(rng: np.random.Generator, base: float, height: float, knots: int) -> list[tuple[float, float]]:
    """The outline of hills or tree tops with their foot on row `base` (a fraction), closed for a polygon."""
    columns = np.linspace(-0.02, 1.02, knots)
    tops = base - height * rng.uniform(0.25, 1.0, knots)
    line = [(float(u) * WIDTH, float(v) * HEIGHT) for u, v in zip(columns, tops, strict=True)]
    return [(-9.0, base * HEIGHT), *line, (WIDTH + 9.0, base * HEIGHT)]


def _trees(rng: np.random.Generator, draw: ImageDraw.ImageDraw, base: float, height: float) -> None:
    """A row of tree crowns behind the ground, shadowed below and lit above."""
    green = pick(rng, ((52, 84, 44), (70, 96, 52), (44, 70, 52)))
    draw.polygon(_ridge(rng, base + 0.01, height * 0.6, 24), tone(green, 0.62))
    for _ in range(22):
        x, radius = rng.uniform(0, WIDTH), rng.uniform(0.25, 0.6) * height * HEIGHT
        y = base * HEIGHT - rng.uniform(0.5, 1.5) * radius
        draw.ellipse((x - radius, y - radius, x + radius, y + radius * 0.8), tone(green, rng.uniform(0.6, 0.9)))
        draw.ellipse((x - radius * 0.7, y - radius * 0.9, x + radius * 0.5, y), tone(green, rng.uniform(0.85, 1.2)))


def _water(rng: np.random.Generator, light: Light, top: float, depth_colour: Colour) -> Field:
    """Water below row `top`: the sky's colour far away, `depth_colour` near, with crests of waves."""
    depth: Field = np.clip((ROW - top) / 0.4, 0, 1)
    water = mix(tone(light.sky_low, 0.86), depth_colour, 0.35 + depth * 0.65)
    crests: Field = noise(rng, 14, 110) * 9 + np.clip(noise(rng, 24, 144) - 1.1, 0, 1) * 55
    return water + crests * (0.3 + depth)


def beach(rng: np.random.Generator, light: Light) -> Stage:
    """Sea under a sky, foam along a slanting shore, sand."""
    horizon = rng.uniform(0.22, 0.42)
    shore = horizon + rng.uniform(0.14, 0.26)
    sea = _water(rng, light, horizon, pick(rng, ((38, 104, 132), (52, 128, 146), (60, 96, 112))))
    field = mix(_sky(rng, light, horizon), sea, below(horizon))
    edge = shore + (COLUMN - 0.5) * rng.uniform(-0.14, 0.14) + 0.012 * np.sin(COLUMN * rng.uniform(9, 26))
    sand = _ground(rng, (150, 128, 96), pick(rng, ((214, 190, 148), (198, 178, 140), (226, 206, 172))), shore, 7)
    field = mix(field, sand, (ROW - edge) * 70)
    field = mix(field, (236, 240, 240), 0.85 - np.abs(ROW - edge) * 85 + 0.3 * noise(rng, 30, 6))
    canvas = to_canvas(field)
    if rng.random() < 0.4:
        headland = _ridge(rng, horizon, 0.12, 9)
        ImageDraw.Draw(canvas).polygon([*headland[:6], (headland[5][0] + 30, horizon * HEIGHT)], (92, 108, 112))
    return Stage(canvas, horizon * HEIGHT, (shore + 0.05) * HEIGHT, 0.35)


def lake(rng: np.random.Generator, light: Light) -> Stage:
    """Mountains over a lake, a meadow in front."""
    horizon = rng.uniform(0.3, 0.46)
    shore = horizon + rng.uniform(0.16, 0.28)
    water = _water(rng, light, horizon, pick(rng, ((44, 82, 104), (58, 100, 104))))
    field = mix(_sky(rng, light, horizon), water, below(horizon))
    edge = shore + 0.03 * np.sin(COLUMN * rng.uniform(3, 12) + rng.uniform(0, 6))
    meadow = _ground(rng, (92, 104, 60), pick(rng, ((108, 124, 60), (84, 112, 52), (142, 130, 76))), shore, 11)
    canvas = to_canvas(mix(field, meadow, (ROW - edge) * 60))
    draw = ImageDraw.Draw(canvas)
    haze = vary(rng, tone(light.sky_low, 0.78))
    draw.polygon(_ridge(rng, horizon, rng.uniform(0.14, 0.27), 9), haze)
    draw.polygon(_ridge(rng, horizon, rng.uniform(0.06, 0.14), 14), tone(haze, 0.72))
    if rng.random() < 0.6:
        _trees(rng, draw, horizon + 0.005, 0.05)
    return Stage(canvas, horizon * HEIGHT, (shore + 0.06) * HEIGHT, 0.35)


def field(rng: np.random.Generator, light: Light) -> Stage:
    """A mown field in front of trees, often with the dirt and chalk of a baseball diamond."""
    horizon = rng.uniform(0.24, 0.42)
    green = pick(rng, ((96, 138, 58), (82, 124, 62), (122, 140, 70)))
    grass = _ground(rng, tone(green, 0.85), green, horizon, 9)
    slant = (COLUMN - rng.uniform(0.2, 0.8)) / np.maximum(ROW - horizon + 0.12, 0.05)
    grass = grass * (1 + rng.uniform(0, 0.07) * np.sign(np.sin(slant * rng.uniform(4, 9))))
    if rng.random() < 0.6:
        x, y = rng.uniform(0.2, 0.8), rng.uniform(0.62, 1.0)
        ring = ((COLUMN - x) / rng.uniform(0.3, 0.7)) ** 2 + ((ROW - y) / rng.uniform(0.1, 0.26)) ** 2
        dirt = _ground(rng, (150, 108, 74), vary(rng, (178, 132, 92)), horizon, 8)
        grass = mix(grass, dirt, (1 - ring) * 9 * below(horizon + 0.03).clip(0, 1))
    canvas = to_canvas(mix(_sky(rng, light, horizon), grass, below(horizon)))
    draw = ImageDraw.Draw(canvas)
    _trees(rng, draw, horizon, rng.uniform(0.08, 0.2))
    if rng.random() < 0.5:
        top, foot = (horizon - rng.uniform(0.02, 0.05)) * HEIGHT, (horizon + 0.012) * HEIGHT
        draw.rectangle((0, top, WIDTH, foot), pick(rng, ((40, 74, 58), (52, 60, 84), (104, 104, 100))))
        draw.line((0, top, WIDTH, top), (214, 196, 92), 2)
    if rng.random() < 0.5:
        x = rng.uniform(0, WIDTH)
        draw.line((x, HEIGHT, WIDTH * rng.uniform(0.2, 0.8), horizon * HEIGHT + 30), (226, 224, 214), 3)
    return Stage(canvas, horizon * HEIGHT, (horizon + 0.07) * HEIGHT, 0.35)


def _house(
    rng: np.random.Generator, draw: ImageDraw.ImageDraw, box: tuple[float, float, float, float], light: Light
) -> None:
    """A house front with rows of windows, a darker ground floor and perhaps an awning."""
    left, top, right, foot = box
    wall = pick(rng, ((156, 104, 84), (188, 172, 148), (132, 134, 140), (206, 196, 180), (120, 92, 84)))
    draw.rectangle(box, wall)
    draw.rectangle((left, top, right, top + 4), tone(wall, 1.2))
    step, rise = rng.uniform(13, 20), rng.uniform(18, 26)
    for y in np.arange(top + 9, foot - 34, rise):
        for x in np.arange(left + 6, right - 9, step):
            lit = light.lamps and rng.random() < 0.4
            pane = (244, 214, 140) if lit else tone((72, 86, 104), rng.uniform(0.7, 1.3))
            draw.rectangle((x, y, x + step * 0.5, y + rise * 0.55), pane)
    draw.rectangle((left, foot - 24, right, foot), tone(wall, 0.62))
    draw.rectangle((left + 5, foot - 20, right - 5, foot - 4), (230, 200, 130) if light.lamps else (84, 96, 108))
    if rng.random() < 0.5:
        corners = [(left + 2, foot - 26), (right - 2, foot - 26), (right + 3, foot - 17), (left - 3, foot - 17)]
        draw.polygon(corners, pick(rng, ((150, 50, 46), (52, 92, 74), (60, 72, 120))))


def street(rng: np.random.Generator, light: Light) -> Stage:
    """House fronts above a pavement and a road with lane marks."""
    horizon = rng.uniform(0.36, 0.5)
    kerb = horizon + rng.uniform(0.07, 0.13)
    road = _ground(rng, (96, 97, 100), pick(rng, ((82, 83, 87), (104, 102, 100))), kerb, 5)
    pavement = _ground(rng, (150, 146, 140), (164, 160, 152), horizon, 5)
    paving = mix(pavement, road, below(kerb))
    canvas = to_canvas(mix(_sky(rng, light, horizon), paving, below(horizon)))
    draw = ImageDraw.Draw(canvas)
    left = rng.uniform(-60, 0)
    while left < WIDTH:
        right = left + rng.uniform(50, 120)
        if rng.random() < 0.88:
            top = max(-20.0, horizon * HEIGHT - rng.uniform(55, 160))
            _house(rng, draw, (left, top, right, horizon * HEIGHT + 8), light)
        left = right + rng.choice([0, 2, 12])
    lane, vanish = rng.uniform(0.72, 0.9) * HEIGHT, rng.uniform(-0.1, 0.1)
    for x in np.arange(rng.uniform(-60, 0), WIDTH, 62):
        y = lane + vanish * x
        draw.polygon([(x, y), (x + 34, y + vanish * 34), (x + 32, y + 5), (x - 3, y + 5)], (206, 204, 192))
    draw.line((0, kerb * HEIGHT, WIDTH, kerb * HEIGHT), (190, 188, 182), 3)
    return Stage(canvas, horizon * HEIGHT, (horizon + 0.06) * HEIGHT, 0.35)


def _surface(rng: np.random.Generator, edge: float, laid: bool) -> Field:
    """A table top of wood or stone, or of checked cloth if `laid`; its far edge is at row `edge`."""
    choice = rng.random() * (1.0 if laid else 0.8)
    near = pick(rng, ((168, 120, 78), (126, 84, 56), (206, 176, 136), (92, 66, 52)))
    if choice < 0.6:
        top = _ground(rng, tone(near, 0.88), near, edge, 3)
        return top + noise(rng, 5, 110) * 8 + noise(rng, 2, 26) * 9
    if choice < 0.8:
        top = _ground(rng, (188, 190, 192), pick(rng, ((222, 220, 214), (96, 100, 106), (188, 196, 200))), edge, 2)
        return top + (noise(rng, 10, 9) * 8 + noise(rng, 40, 30) * 4)
    cloth = pick(rng, ((176, 60, 56), (70, 96, 140), (120, 140, 110), (196, 186, 168)))
    spread = (COLUMN - 0.5) / (0.6 + 0.6 * ROW)
    checks = (np.sin(spread * 60) > 0).astype(np.float32) + (np.sin(ROW * ROW * 46) > 0)
    return mix((226, 220, 208), cloth, 0.2 + 0.3 * checks) + noise(rng, 9, 7) * 7


def _wall(rng: np.random.Generator, edge: float) -> Field:
    wall = pick(rng, ((206, 198, 184), (170, 184, 188), (188, 176, 160), (146, 158, 142), (212, 208, 206)))
    shade: Field = 1.04 - 0.2 * np.abs(COLUMN - rng.uniform(0, 1)) - 0.1 * (1 - ROW)
    return fill(wall) * shade + noise(rng, 6, 5) * 3


def _window(rng: np.random.Generator, draw: ImageDraw.ImageDraw, light: Light, foot: float) -> None:
    left, wide, top = rng.uniform(0, WIDTH - 90), rng.uniform(60, 110), rng.uniform(-30, 12)
    draw.rectangle((left, top, left + wide, foot), (226, 224, 218))
    draw.rectangle((left + 5, top + 5, left + wide - 5, foot - 5), vary(rng, light.sky_low, 10))
    draw.rectangle((left + wide / 2 - 2, top, left + wide / 2 + 2, foot), (216, 214, 208))


def kitchen(rng: np.random.Generator, light: Light) -> Stage:
    """A laid table, viewed from its side or from above."""
    edge = max(0.0, rng.uniform(-0.15, 0.3))
    canvas = to_canvas(mix(_wall(rng, edge), _surface(rng, edge, laid=True), below(edge)))
    draw = ImageDraw.Draw(canvas)
    if edge > 0.14 and rng.random() < 0.6:
        _window(rng, draw, light, edge * HEIGHT - 12)
    if rng.random() < 0.4:
        x, y, wide = rng.uniform(60, 320), rng.uniform(0.5, 0.8) * HEIGHT, rng.uniform(70, 110)
        mat = pick(rng, ((196, 182, 150), (90, 104, 96), (150, 80, 70), (226, 222, 214)))
        near = wide * 1.12
        draw.polygon([(x - wide, y - 48), (x + wide, y - 48), (x + near, y + 52), (x - near, y + 52)], mat)
    return Stage(canvas, edge * HEIGHT, (edge + 0.1) * HEIGHT, 0.95 - 1.3 * edge)


def desk(rng: np.random.Generator, light: Light) -> Stage:
    """A desk in front of a wall, often with a window, a shelf or a screen."""
    edge = rng.uniform(0.2, 0.44)
    canvas = to_canvas(mix(_wall(rng, edge), _surface(rng, edge, laid=False), below(edge)))
    draw = ImageDraw.Draw(canvas)
    foot = edge * HEIGHT
    if rng.random() < 0.35:
        _window(rng, draw, light, foot - 10)
    if rng.random() < 0.5:
        _shelf(rng, draw, foot * rng.uniform(0.4, 0.7))
    if rng.random() < 0.5:
        x, wide, high = rng.uniform(80, 300), rng.uniform(50, 76), rng.uniform(56, 80)
        draw.rectangle((x - 8, foot - 10, x + 8, foot + 12), (44, 44, 48))
        draw.ellipse((x - 30, foot + 6, x + 30, foot + 18), (52, 52, 56))
        draw.rectangle((x - wide, foot - 6 - high, x + wide, foot - 6), (34, 34, 38))
        glow = pick(rng, ((70, 110, 160), (40, 44, 52), (180, 196, 210), (60, 80, 70)))
        draw.rectangle((x - wide + 4, foot - 2 - high, x + wide - 4, foot - 12), glow)
    return Stage(canvas, foot, (edge + 0.1) * HEIGHT, 0.85 - 0.8 * edge)


def _shelf(rng: np.random.Generator, draw: ImageDraw.ImageDraw, y: float) -> None:
    """A board with a row of book spines."""
    left, right = rng.uniform(0, 120), rng.uniform(220, WIDTH)
    x = left + 4
    while x < right - 12:
        wide, high = rng.uniform(4, 11), rng.uniform(22, 36)
        spine = pick(rng, ((140, 60, 50), (60, 80, 120), (190, 170, 120), (70, 100, 80)))
        draw.rectangle((x, y - high, x + wide, y), spine)
        x += wide + (rng.uniform(6, 40) if rng.random() < 0.15 else 1)
    draw.rectangle((left, y, right, y + 5), (120, 88, 60))


def _sofa(rng: np.random.Generator, draw: ImageDraw.ImageDraw, foot: float) -> None:
    x, wide, high = rng.uniform(110, 270), rng.uniform(78, 112), rng.uniform(56, 74)
    cloth = pick(rng, ((112, 96, 84), (70, 86, 108), (150, 140, 126), (110, 60, 56), (84, 104, 84)))
    draw.ellipse((x - wide - 14, foot - 12, x + wide + 14, foot + 12), (64, 52, 46))
    draw.rounded_rectangle((x - wide, foot - high, x + wide, foot - 8), 12, tone(cloth, 0.85))
    for side in (-1, 1):
        middle = x + side * wide * 0.44
        draw.rounded_rectangle((middle - wide * 0.42, foot - high + 5, middle + wide * 0.42, foot - 26), 8, cloth)
        draw.rounded_rectangle((middle - wide * 0.43, foot - 30, middle + wide * 0.43, foot - 12), 6, tone(cloth, 1.12))
        arm = x + side * wide
        draw.rounded_rectangle((arm - 13, foot - high * 0.62, arm + 13, foot), 9, tone(cloth, 0.95))


def living_room(rng: np.random.Generator, light: Light) -> Stage:
    """A room with a sofa, a rug, and a window, picture or lamp on the wall."""
    edge = rng.uniform(0.4, 0.54)
    boards = pick(rng, ((150, 108, 74), (118, 84, 62), (176, 150, 120), (140, 136, 132)))
    floor: Field = _ground(rng, tone(boards, 0.8), boards, edge, 3) + (noise(rng, 4, 70) * 7)
    middle, rug = rng.uniform(0.35, 0.65), pick(rng, ((150, 70, 64), (88, 96, 120), (196, 184, 160), (104, 120, 100)))
    ring = np.maximum(np.abs(COLUMN - middle) / 0.36, np.abs(ROW - edge - 0.27) / 0.16)
    floor = mix(floor, fill(rug) * (1 + 0.1 * np.sign(np.sin(ring * 22))), (1 - ring) * 30)
    canvas = to_canvas(mix(_wall(rng, edge), floor, below(edge)))
    draw = ImageDraw.Draw(canvas)
    foot = edge * HEIGHT
    draw.rectangle((0, foot - 5, WIDTH, foot), (216, 210, 200))
    if rng.random() < 0.5:
        _window(rng, draw, light, foot - 50)
    if rng.random() < 0.5:
        x, y, wide, high = rng.uniform(20, 300), rng.uniform(4, 26), rng.uniform(30, 70), rng.uniform(26, 44)
        draw.rectangle((x, y, x + wide, y + high), (72, 54, 42))
        draw.rectangle((x + 4, y + 4, x + wide - 4, y + high - 4), pick(rng, ((120, 140, 150), (190, 150, 110))))
    if rng.random() < 0.45:
        x = rng.choice([rng.uniform(12, 50), rng.uniform(334, 372)])
        draw.line((x, foot + 8, x, foot - 78), (60, 54, 50), 3)
        draw.polygon(
            [(x - 11, foot - 104), (x + 11, foot - 104), (x + 19, foot - 76), (x - 19, foot - 76)],
            (252, 232, 180) if light.lamps else (222, 208, 180),
        )
    if rng.random() < 0.85:
        _sofa(rng, draw, foot + rng.uniform(10, 24))
    return Stage(canvas, foot - 60, foot + 40, 0.4)


BACKDROPS: dict[str, Callable[[np.random.Generator, Light], Stage]] = {
    "beach": beach,
    "lake": lake,
    "field": field,
    "street": street,
    "kitchen": kitchen,
    "desk": desk,
    "living room": living_room,
}
