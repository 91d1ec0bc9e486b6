"""The labelled objects of the data set `scenes`: a small drawing function, called a brush, for each label.

A brush draws in the object's own frame: u to the right, v downwards, (0, 0) is the foot or the middle, lengths are in
units of the object (a person's height, a plate's radius). `Pen` maps this frame to the canvas.
"""

from __future__ import annotations

import math

import numpy as np

from labeldep_cli.datasets.scenes.paint import CLOTHES, DARK, STEEL, Brush, Colour, Pen, pick, tone

_SKIN: tuple[Colour, ...] = ((236, 196, 164), (206, 156, 118), (150, 102, 74), (96, 64, 48))


def person(pen: Pen, rng: np.random.Generator) -> None:
    """A standing, walking or swinging figure, one unit high."""
    skin, top, legs = pick(rng, _SKIN), pick(rng, CLOTHES), pick(rng, CLOTHES)
    hair = pick(rng, ((40, 30, 26), (90, 62, 40), (190, 150, 90), (60, 60, 64)))
    pen.shadow(0.3, 0.07)
    stride, lean = rng.uniform(0.01, 0.13), rng.uniform(-0.04, 0.04)
    for side, shade in ((-1, 0.75), (1, 1.0)):
        pen.bar(tone(legs, shade), (side * 0.04, -0.5), (side * stride, -0.03), 0.1, 0.7)
        pen.oval(tone((50, 42, 40), shade), side * stride + 0.02, -0.02, 0.055, 0.025)
    arms = [(rng.uniform(0.1, 0.26), rng.uniform(-0.62, -0.42)) for _ in range(2)]
    pen.bar(tone(top, 0.7), (-0.09 + lean, -0.79), (-arms[0][0] + lean, arms[0][1]), 0.065)
    pen.shape(top, (-0.115 + lean, -0.82), (0.115 + lean, -0.82), (0.1, -0.46), (-0.1, -0.46))
    pen.shape(tone(top, 0.8), (-0.115 + lean, -0.82), (-0.05 + lean, -0.82), (-0.03, -0.46), (-0.1, -0.46))
    pen.bar(tone(top, 1.08), (0.09 + lean, -0.79), (arms[1][0] + lean, arms[1][1]), 0.065)
    pen.oval(skin, arms[1][0] + lean, arms[1][1], 0.03, 0.03)
    pen.oval(skin, -arms[0][0] + lean, arms[0][1], 0.03, 0.03)
    pen.bar(tone(skin, 0.85), (lean, -0.86), (lean, -0.8), 0.05)
    pen.oval(hair, lean * 1.3, -0.925, 0.068, 0.078)
    pen.oval(skin, lean * 1.3 + 0.012, -0.9, 0.054, 0.06)


def dog(pen: Pen, rng: np.random.Generator) -> None:
    """A dog from the side, about one unit long and 0.8 high."""
    coat = pick(rng, ((150, 104, 62), (60, 48, 42), (214, 192, 160), (110, 104, 100), (232, 228, 220)))
    pen.shadow(0.5, 0.1)
    for foot, shade in ((-0.3, 0.7), (0.24, 0.7), (-0.22, 0.9), (0.32, 0.9)):
        pen.bar(tone(coat, shade), (foot * 0.85, -0.4), (foot + rng.uniform(-0.05, 0.05), 0.0), 0.1, 0.7)
    pen.bar(tone(coat, 0.9), (-0.36, -0.5), (-0.6, rng.uniform(-0.85, -0.45)), 0.08, 0.5)
    pen.oval(coat, -0.02, -0.45, 0.4, 0.17)
    pen.oval(tone(coat, 1.15), 0.0, -0.51, 0.3, 0.08)
    pen.bar(coat, (0.28, -0.48), (0.42, -0.72), 0.18)
    pen.oval(coat, 0.45, -0.76, 0.15, 0.12)
    pen.bar(tone(coat, 0.9), (0.5, -0.74), (0.68, -0.7), 0.11, 0.7)
    pen.shape(tone(coat, 0.6), (0.36, -0.84), (0.44, -0.82), (0.38, -0.6))
    pen.oval((24, 22, 22), 0.68, -0.72, 0.03, 0.03)


def ball(pen: Pen, rng: np.random.Generator) -> None:
    """A ball of radius one with a shaded side and a seam."""
    colour = pick(rng, ((238, 236, 230), (240, 238, 234), (232, 214, 90), (210, 84, 60)))
    pen.shadow(1.3, 0.5, 0.9)
    pen.oval(tone(colour, 0.72), 0, 0, 1.0, 1.0)
    pen.oval(colour, -0.12, -0.15, 0.8, 0.8)
    pen.bar(tone((190, 70, 60), rng.uniform(0.8, 1.2)), (0.35, -0.7), (0.15, 0.75), 0.18)


def bat(pen: Pen, rng: np.random.Generator) -> None:
    """A baseball bat one unit long, its grip at the origin."""
    wood = pick(rng, ((206, 160, 104), (170, 116, 70), (60, 50, 48), (170, 60, 52)))
    pen.oval(tone(wood, 0.7), 0, 0.02, 0.05, 0.03)
    pen.bar(wood, (0, 0), (0, -0.45), 0.06, 1.4)
    pen.bar(wood, (0, -0.4), (0, -0.95), 0.075, 1.9)
    pen.oval(wood, 0, -0.95, 0.07, 0.06)
    pen.bar(tone(wood, 1.25), (-0.015, -0.3), (-0.03, -0.93), 0.025, 1.5)


def glove(pen: Pen, rng: np.random.Generator) -> None:
    """A leather mitt about two units wide."""
    leather = pick(rng, ((136, 82, 44), (108, 62, 38), (168, 112, 62)))
    for finger in range(4):
        angle = -2.4 + finger * 0.45
        pen.bar(tone(leather, 0.85 + 0.08 * (finger % 2)), (0, 0), (math.cos(angle), math.sin(angle)), 0.5, 0.8)
    pen.oval(leather, 0, 0.1, 0.75, 0.7)
    pen.bar(tone(leather, 0.9), (0.4, 0.2), (0.95, -0.35), 0.4, 0.8)
    pen.oval(tone(leather, 0.55), 0.12, -0.05, 0.35, 0.4)


def umbrella(pen: Pen, rng: np.random.Generator) -> None:
    """An open umbrella two units wide, the lower end of its stick at the origin."""
    cloth = pick(rng, ((196, 52, 56), (52, 84, 150), (226, 190, 70), (56, 58, 64), (84, 140, 120), (222, 120, 150)))
    other = (236, 232, 224) if rng.random() < 0.5 else tone(cloth, 0.78)
    pen.bar((96, 90, 84), (0, 0), (0, -1.5), 0.06)
    rim = [-1.0 + 0.4 * step for step in range(6)]
    for step in range(5):
        left, right = rim[step], rim[step + 1]
        dome = [(u, -0.95 - 0.62 * math.sqrt(max(0.0, 1 - u * u))) for u in (left, (left + right) / 2, right)]
        pen.shape(
            tone(cloth if step % 2 == 0 else other, 1.1 - 0.09 * step),
            *dome,
            (right, -0.93),
            ((left + right) / 2, -1.0),
            (left, -0.93),
            (0.0, -1.57),
        )


def boat(pen: Pen, rng: np.random.Generator) -> None:
    """A sailing or motor boat one unit long, its waterline at the origin."""
    hull = pick(rng, ((232, 230, 224), (60, 80, 120), (150, 56, 50), (70, 110, 100), (120, 88, 60)))
    pen.shadow(0.55, 0.07, 0.05, 0.0)
    if rng.random() < 0.55:
        sail = pick(rng, ((240, 238, 230), (236, 226, 200), (220, 120, 90)))
        pen.bar((90, 76, 64), (0, -0.12), (0, -0.98), 0.025)
        pen.shape(sail, (0.02, -0.95), (0.02, -0.2), (0.42, -0.2))
        pen.shape(tone(sail, 0.84), (-0.02, -0.85), (-0.02, -0.2), (-0.32, -0.2))
    else:
        pen.shape((224, 222, 216), (-0.22, -0.14), (-0.16, -0.34), (0.14, -0.34), (0.2, -0.14))
        pen.shape((70, 90, 108), (-0.14, -0.2), (-0.11, -0.3), (0.1, -0.3), (0.13, -0.2))
    pen.shape(hull, (-0.5, -0.17), (0.54, -0.2), (0.4, 0.02), (-0.42, 0.02))
    pen.shape(tone(hull, 0.65), (-0.46, -0.06), (0.46, -0.06), (0.4, 0.02), (-0.42, 0.02))


def car(pen: Pen, rng: np.random.Generator) -> None:
    """A car from the side, one unit long."""
    paint = pick(rng, ((176, 44, 44), (54, 80, 130), (214, 214, 216), (50, 52, 56), (150, 154, 158), (206, 170, 70)))
    pen.shadow(0.56, 0.07, 0.0, 0.0)
    roof = rng.uniform(0.34, 0.42)
    pen.shape(tone(paint, 0.9), (-0.32, -0.22), (-0.2, -roof), (0.16, -roof), (0.3, -0.22))
    pen.shape((58, 70, 84), (-0.27, -0.23), (-0.18, -roof + 0.03), (-0.03, -roof + 0.03), (-0.03, -0.23))
    pen.shape((84, 98, 112), (0.0, -0.23), (0.0, -roof + 0.03), (0.14, -roof + 0.03), (0.25, -0.23))
    pen.shape(paint, (-0.5, -0.09), (-0.49, -0.22), (-0.3, -0.25), (0.3, -0.25), (0.48, -0.19), (0.5, -0.07))
    pen.shape(tone(paint, 0.62), (-0.5, -0.12), (0.5, -0.1), (0.5, -0.05), (-0.5, -0.05))
    pen.shape((250, 236, 190), (0.46, -0.18), (0.5, -0.16), (0.5, -0.12), (0.46, -0.13))
    for wheel in (-0.29, 0.3):
        pen.oval((26, 26, 28), wheel, -0.06, 0.09, 0.09)
        pen.oval((140, 142, 146), wheel, -0.06, 0.045, 0.045)


def traffic_light(pen: Pen, rng: np.random.Generator) -> None:
    """A signal on a pole, one unit high, one of its lamps lit."""
    pole = pick(rng, ((70, 72, 74), (100, 100, 98)))
    pen.bar(pole, (0, 0), (0, -0.72), 0.035)
    pen.shape((30, 32, 32), (-0.075, -0.99), (0.075, -0.99), (0.075, -0.66), (-0.075, -0.66))
    lit = int(rng.integers(3))
    for lamp, colour in enumerate(((236, 52, 44), (244, 190, 60), (70, 214, 110))):
        pen.oval(colour if lamp == lit else tone(colour, 0.3), 0, -0.935 + 0.11 * lamp, 0.048, 0.048)


def plate(pen: Pen, rng: np.random.Generator) -> None:
    """A plate of radius one with a meal on it."""
    china = pick(rng, ((238, 236, 230), (220, 226, 232), (186, 200, 206), (230, 216, 190)))
    pen.shadow(1.2, 1.15, 0.1)
    pen.oval(tone(china, 0.8), 0, 0.05, 1.0, 1.0)
    pen.oval(china, 0, 0, 1.0, 1.0)
    pen.oval(tone(china, 0.88), 0, 0, 0.72, 0.72)
    pen.oval(tone(china, 0.97), 0.02, 0.03, 0.68, 0.68)
    for _ in range(int(rng.integers(0, 9))):
        food = pick(rng, ((190, 70, 46), (110, 144, 60), (222, 180, 90), (140, 84, 50), (236, 214, 150)))
        u, v, radius = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0.1, 0.28)
        pen.oval(tone(food, 0.7), u, v + 0.05, radius, radius * 0.8)
        pen.oval(food, u, v, radius, radius * 0.75)


def fork(pen: Pen, rng: np.random.Generator) -> None:
    """A fork one unit long, tines up, its middle at the origin."""
    steel = pick(rng, STEEL)
    pen.bar(tone(steel, 0.45), (0.02, 0.5), (0.02, -0.4), 0.06)
    pen.bar(steel, (0, 0.5), (0, -0.12), 0.075, 0.6)
    pen.shape(steel, (-0.075, -0.28), (0.075, -0.28), (0.03, -0.1), (-0.03, -0.1))
    for tine in (-0.06, -0.02, 0.02, 0.06):
        pen.bar(steel, (tine, -0.26), (tine, -0.5), 0.022)


def knife(pen: Pen, rng: np.random.Generator) -> None:
    """A knife one unit long, blade up, its middle at the origin."""
    steel, handle = pick(rng, STEEL), pick(rng, DARK + STEEL)
    pen.bar(tone(steel, 0.45), (0.02, 0.5), (0.02, -0.4), 0.06)
    pen.bar(handle, (0, 0.5), (0, 0.06), 0.075)
    pen.shape(steel, (-0.035, 0.08), (0.04, 0.08), (0.05, -0.3), (0.0, -0.5), (-0.035, -0.45))
    pen.bar(tone(steel, 1.2), (-0.02, 0.05), (-0.02, -0.42), 0.02)


def cup(pen: Pen, rng: np.random.Generator) -> None:
    """A mug one unit high, its foot at the origin."""
    glaze = pick(rng, ((230, 226, 218), (60, 90, 130), (170, 60, 54), (88, 120, 90), (50, 50, 54), (224, 180, 90)))
    pen.shadow(0.7, 0.25, -0.05)
    pen.oval(tone(glaze, 0.75), 0.46, -0.52, 0.24, 0.27)
    pen.oval(tone(glaze, 0.4), 0.46, -0.52, 0.13, 0.16)
    pen.shape(glaze, (-0.44, -0.95), (0.44, -0.95), (0.36, -0.06), (-0.36, -0.06))
    pen.shape(tone(glaze, 0.74), (0.12, -0.95), (0.44, -0.95), (0.36, -0.06), (0.1, 0.0))
    pen.oval(tone(glaze, 0.9), 0, -0.06, 0.34, 0.09)
    pen.oval(tone(glaze, 1.18), 0, -0.95, 0.44, 0.15)
    pen.oval(pick(rng, ((70, 44, 30), (110, 70, 40), (40, 30, 28))), 0, -0.93, 0.37, 0.11)


def laptop(pen: Pen, rng: np.random.Generator) -> None:
    """An open laptop two units wide, the hinge at the origin."""
    case = pick(rng, ((186, 188, 192), (60, 62, 66), (120, 122, 128)))
    pen.shadow(1.3, 0.5, 0.5)
    pen.shape(tone(case, 0.9), (-0.92, 0.0), (0.92, 0.0), (1.08, 0.72), (-1.08, 0.72))
    pen.shape((44, 46, 50), (-0.8, 0.08), (0.8, 0.08), (0.88, 0.42), (-0.88, 0.42))
    for row in (0.16, 0.25, 0.34):
        pen.bar(tone(case, 0.62), (-0.82, row), (0.82, row), 0.035)
    pen.shape(tone(case, 0.75), (-0.25, 0.48), (0.25, 0.48), (0.27, 0.68), (-0.27, 0.68))
    pen.shape(tone(case, 0.6), (-0.95, 0.0), (0.95, 0.0), (0.98, -1.2), (-0.98, -1.2))
    glow = pick(rng, ((90, 140, 190), (214, 220, 226), (40, 50, 64), (120, 150, 120)))
    pen.shape(glow, (-0.87, -0.08), (0.87, -0.08), (0.9, -1.12), (-0.9, -1.12))
    for row in range(int(rng.integers(0, 5))):
        pen.bar(tone(glow, 0.72), (-0.7, -0.95 + row * 0.2), (rng.uniform(-0.3, 0.7), -0.95 + row * 0.2), 0.07)


def keyboard(pen: Pen, rng: np.random.Generator) -> None:
    """A keyboard two units wide, its middle at the origin."""
    case = pick(rng, ((44, 44, 48), (214, 214, 212), (150, 150, 154)))
    key = tone(case, 1.7) if case[0] < 100 else tone(case, 0.72)
    pen.shadow(1.2, 0.55, 0.08)
    pen.shape(tone(case, 0.6), (-1.0, -0.3), (1.0, -0.3), (1.03, 0.4), (-1.03, 0.4))
    pen.shape(case, (-1.0, -0.36), (1.0, -0.36), (1.03, 0.32), (-1.03, 0.32))
    for row in range(4):
        v = -0.25 + row * 0.15
        for step in range(11):
            u = -0.88 + step * 0.166 + 0.02 * row
            pen.shape(key, (u, v - 0.05), (u + 0.11, v - 0.05), (u + 0.11, v + 0.05), (u, v + 0.05))


def mouse(pen: Pen, rng: np.random.Generator) -> None:
    """A computer mouse two units long, buttons up, often with a cable."""
    shell = pick(rng, ((44, 44, 48), (70, 70, 74), (210, 210, 208)))
    if rng.random() < 0.5:
        bend = rng.uniform(-0.8, 0.8)
        pen.bar((50, 50, 52), (0, -0.9), (bend, -2.2), 0.1)
        pen.bar((50, 50, 52), (bend, -2.2), (bend * 2.4, -3.6), 0.1)
    pen.shadow(0.95, 1.2, 0.12)
    pen.oval(tone(shell, 0.7), 0.03, 0.06, 0.64, 1.0)
    pen.oval(shell, 0, 0, 0.6, 0.97)
    pen.oval(tone(shell, 1.3), -0.15, 0.25, 0.25, 0.4)
    pen.bar(tone(shell, 0.5), (0, -0.92), (0, -0.25), 0.08)
    pen.bar(tone(shell, 0.5), (-0.55, -0.22), (0.55, -0.22), 0.07)


BRUSHES: dict[str, Brush] = {
    "person": person,
    "dog": dog,
    "ball": ball,
    "bat": bat,
    "glove": glove,
    "umbrella": umbrella,
    "boat": boat,
    "car": car,
    "traffic light": traffic_light,
    "plate": plate,
    "fork": fork,
    "knife": knife,
    "cup": cup,
    "laptop": laptop,
    "keyboard": keyboard,
    "mouse": mouse,
}
