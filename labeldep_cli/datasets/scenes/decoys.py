"""The unlabelled drawings of the data set `scenes`: vague ones, which labels share with decoys, covers, and clutter."""

from __future__ import annotations

import numpy as np

from labeldep_cli.datasets.scenes.paint import CLOTHES, DARK, STEEL, Brush, Colour, Pen, pick, tone, vary

_WOOD: tuple[Colour, ...] = ((176, 128, 80), (142, 100, 64), (206, 166, 116), (90, 66, 50))


def vague_figure(pen: Pen, rng: np.random.Generator) -> None:
    """A distant person, or a post, a bin, a shrub: an upright shape one unit high."""
    colour = tone(pick(rng, CLOTHES), 0.55)
    pen.shadow(0.2, 0.05)
    pen.bar(colour, (0, -0.62), (rng.uniform(-0.03, 0.03), 0.0), 0.16, rng.uniform(0.4, 1.0))
    pen.oval(tone(colour, 1.1), 0, -0.62, 0.105, 0.19)
    pen.oval(tone(colour, rng.uniform(0.9, 1.3)), rng.uniform(-0.02, 0.02), -0.84, 0.06, 0.08)


def vague_lump(pen: Pen, rng: np.random.Generator) -> None:
    """A lying dog, a dropped mitt, or a bag, a stone: a brown heap about one unit wide."""
    colour = pick(rng, ((128, 88, 54), (70, 56, 48), (176, 150, 118), (106, 100, 94)))
    pen.shadow(0.55, 0.12)
    pen.oval(tone(colour, 0.8), 0, -0.18, 0.45, 0.2)
    pen.oval(colour, rng.uniform(-0.1, 0.1), -0.24, 0.34, 0.17)
    pen.oval(tone(colour, 0.9), rng.choice([-0.34, 0.34]), -0.3, 0.15, 0.14)


def vague_dot(pen: Pen, rng: np.random.Generator) -> None:
    """A distant ball, or a pebble, a flower, a scrap of paper: a pale dot of radius one."""
    colour = vary(rng, (230, 228, 218), 20)
    pen.oval(tone(colour, 0.75), 0.1, 0.15, 0.9, 0.8)
    pen.oval(colour, 0, 0, 0.8, rng.uniform(0.6, 0.85))


def vague_stick(pen: Pen, rng: np.random.Generator) -> None:
    """A bat, or a branch, a pole: a thin stick one unit long from the origin upwards."""
    colour, bend = pick(rng, _WOOD), rng.uniform(-0.04, 0.04)
    pen.bar(colour, (0, 0.02), (bend, -0.5), 0.05, 1.1)
    pen.bar(tone(colour, 1.08), (bend, -0.48), (0, -0.97), 0.058, 1.2)


def vague_cutlery(pen: Pen, rng: np.random.Generator) -> None:
    """A fork or a knife, or a spoon, a pen, a chopstick: a pale stick one unit long, its middle at the origin."""
    colour = pick(rng, STEEL)
    pen.bar(tone(colour, 0.45), (0.02, 0.5), (0.02, -0.45), 0.05)
    pen.bar(colour, (0, 0.5), (0, -0.5), 0.055, rng.uniform(0.7, 1.5))


def vague_canopy(pen: Pen, rng: np.random.Generator) -> None:
    """A folded or distant umbrella, or a tent, an awning: a cone of cloth on a stick."""
    cloth = pick(rng, ((170, 60, 60), (60, 84, 130), (200, 176, 110), (70, 72, 78), (96, 134, 120)))
    pen.bar((96, 90, 84), (0, 0), (0, -0.9), 0.06)
    wide = rng.uniform(0.3, 0.75)
    pen.shape(cloth, (-wide, -0.75), (wide, -0.75), (0.04, -1.5), (-0.04, -1.5))
    pen.shape(tone(cloth, 0.75), (0.1 * wide, -0.75), (wide, -0.75), (0.04, -1.5))


def vague_hull(pen: Pen, rng: np.random.Generator) -> None:
    """A distant boat, or a rock, a buoy, a jetty: a dark wedge on the water, one unit long."""
    colour = pick(rng, ((96, 92, 88), (70, 74, 80), (150, 140, 126), (176, 172, 166)))
    high = rng.uniform(0.14, 0.4)
    pen.shadow(0.45, 0.06, 0.03, 0.0)
    pen.shape(colour, (-0.38, -0.1), (-0.1, -high), (0.12, -high * 0.9), (0.42, -0.12), (0.34, 0.02), (-0.34, 0.02))
    pen.shape(tone(colour, 0.7), (-0.38, -0.05), (0.4, -0.06), (0.34, 0.02), (-0.34, 0.02))


def vague_block(pen: Pen, rng: np.random.Generator) -> None:
    """A car's rear, or a container, a kiosk: a box on the street, about 0.6 units wide."""
    colour = pick(rng, ((120, 50, 48), (60, 78, 112), (170, 170, 170), (60, 62, 66), (76, 100, 84)))
    pen.shadow(0.4, 0.06, 0.0, 0.0)
    pen.shape(colour, (-0.3, -0.3), (0.28, -0.32), (0.3, -0.03), (-0.3, -0.02))
    pen.shape(tone(colour, 1.15), (-0.26, -0.36), (0.24, -0.37), (0.28, -0.3), (-0.3, -0.29))
    pen.shape((60, 68, 78), (-0.22, -0.27), (0.2, -0.28), (0.21, -0.18), (-0.23, -0.17))
    pen.shape(tone(colour, 0.5), (-0.3, -0.07), (0.3, -0.08), (0.3, -0.0), (-0.3, 0.0))


def vague_pole(pen: Pen, rng: np.random.Generator) -> None:
    """A traffic light from behind, or a lamp, a road sign: a pole with a head, one unit high."""
    colour = pick(rng, DARK)
    pen.bar(colour, (0, 0), (0, -0.75), 0.035)
    pen.oval(tone(colour, 1.1), 0, -0.84, 0.07, rng.uniform(0.06, 0.15))
    if rng.random() < 0.4:
        pen.oval(pick(rng, ((230, 200, 120), (200, 70, 60), (120, 190, 140))), 0, -0.84, 0.04, 0.04)


def vague_disc(pen: Pen, rng: np.random.Generator) -> None:
    """A plate's rim, or a lid, a board, a bowl: a plain disc of radius one."""
    colour = pick(rng, ((222, 218, 208), (196, 200, 204), (176, 138, 96), (206, 190, 160)))
    pen.shadow(1.1, 1.05, 0.08)
    pen.oval(tone(colour, 0.75), 0, 0.07, 0.9, 0.9)
    pen.oval(colour, 0, 0, 0.9, 0.9)
    pen.oval(tone(colour, 0.93), 0, 0, rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.8))


def vague_pot(pen: Pen, rng: np.random.Generator) -> None:
    """A cup with its handle hidden, or a pot, a jar, a can: a small vessel one unit high."""
    colour = pick(rng, ((190, 186, 178), (150, 96, 70), (80, 96, 120), (96, 110, 84), (64, 60, 60)))
    pen.shadow(0.6, 0.22, -0.05)
    pen.shape(colour, (-0.38, -0.9), (0.38, -0.9), (0.33, -0.02), (-0.33, -0.02))
    pen.shape(tone(colour, 0.75), (0.1, -0.9), (0.38, -0.9), (0.33, -0.02), (0.1, 0.0))
    pen.oval(tone(colour, 0.6), 0, -0.9, 0.38, 0.12)


def vague_panel(pen: Pen, rng: np.random.Generator) -> None:
    """A closed laptop, or one from behind, or a folder, a book, a tray: a slab two units wide."""
    colour = pick(rng, ((150, 152, 156), (60, 62, 66), (110, 80, 70), (90, 104, 124)))
    pen.shadow(1.1, 0.6, 0.1)
    pen.shape(tone(colour, 0.6), (-0.95, -0.5), (0.95, -0.5), (1.02, 0.5), (-1.02, 0.5))
    pen.shape(colour, (-0.95, -0.56), (0.95, -0.56), (1.02, 0.42), (-1.02, 0.42))


def vague_strip(pen: Pen, rng: np.random.Generator) -> None:
    """A keyboard in the dark, or a pencil case, a bar of the screen: a strip two units wide."""
    colour = pick(rng, ((50, 50, 54), (170, 170, 170), (120, 116, 112)))
    pen.shadow(1.1, 0.45, 0.06)
    pen.shape(tone(colour, 0.6), (-0.96, -0.26), (0.96, -0.26), (1.0, 0.34), (-1.0, 0.34))
    pen.shape(colour, (-0.96, -0.32), (0.96, -0.32), (1.0, 0.26), (-1.0, 0.26))
    pen.shape(tone(colour, 0.85), (-0.85, -0.2), (0.85, -0.2), (0.88, 0.14), (-0.88, 0.14))


def vague_pebble(pen: Pen, rng: np.random.Generator) -> None:
    """A mouse, or an eraser, a purse, an apple: a dark roundish thing two units long."""
    colour = pick(rng, ((50, 50, 54), (84, 80, 78), (190, 186, 180), (110, 60, 50)))
    pen.shadow(0.85, 1.0, 0.12)
    pen.oval(tone(colour, 0.7), 0.03, 0.08, 0.6, 0.85)
    pen.oval(colour, 0, 0, 0.57, 0.8)


def low_table(pen: Pen, rng: np.random.Generator) -> None:
    """A low table two units wide, its feet at the origin."""
    wood = pick(rng, _WOOD)
    pen.shadow(1.1, 0.2)
    for leg in (-0.85, 0.85):
        pen.bar(tone(wood, 0.6), (leg, -0.5), (leg, 0.0), 0.09)
    pen.shape(tone(wood, 0.7), (-1.0, -0.5), (1.0, -0.5), (1.0, -0.38), (-1.0, -0.38))
    pen.shape(tone(wood, 1.1), (-0.86, -0.8), (0.86, -0.8), (1.0, -0.5), (-1.0, -0.5))


def tuft(pen: Pen, rng: np.random.Generator) -> None:
    """Cover outdoors: grass or a shrub, two units wide and one high."""
    green = pick(rng, ((70, 104, 46), (96, 116, 58), (56, 86, 50)))
    for _ in range(11):
        foot, tip = rng.uniform(-0.8, 0.8), rng.uniform(-0.25, 0.25)
        pen.bar(tone(green, rng.uniform(0.65, 1.2)), (foot, 0.05), (foot + tip, -rng.uniform(0.5, 1.0)), 0.3, 0.25)


def crate(pen: Pen, rng: np.random.Generator) -> None:
    """Cover on streets and sand: a chest, a bin or a bench's back, two units wide and one high."""
    colour = pick(rng, ((110, 104, 98), (92, 110, 104), (136, 108, 80), (170, 164, 152)))
    pen.shadow(1.1, 0.2)
    pen.shape(colour, (-0.85, -0.95), (0.85, -0.95), (0.85, 0.05), (-0.85, 0.05))
    pen.shape(tone(colour, 1.2), (-0.9, -1.0), (0.9, -1.0), (0.85, -0.85), (-0.85, -0.85))
    pen.shape(tone(colour, 0.75), (0.5, -0.85), (0.85, -0.85), (0.85, 0.05), (0.5, 0.05))


def cloth(pen: Pen, rng: np.random.Generator) -> None:
    """Cover indoors: a napkin, a newspaper or a cushion, two units wide."""
    colour = pick(rng, ((226, 222, 214), (170, 80, 72), (110, 128, 150), (206, 190, 150), (120, 136, 110)))
    skew = rng.uniform(-0.25, 0.25)
    pen.shape(tone(colour, 0.7), (-0.9, -0.92 + skew), (0.95, -0.88), (0.98, 0.14), (-0.85, 0.12 - skew))
    pen.shape(colour, (-0.95, -1.0 + skew), (0.9, -0.95), (0.94, 0.05), (-0.9, 0.05 - skew))
    pen.shape(tone(colour, 0.9), (-0.95, -1.0 + skew), (0.1, -0.97), (-0.2, 0.05))


def glass(pen: Pen, rng: np.random.Generator) -> None:
    """Clutter: a drinking glass, one unit high."""
    drink = pick(rng, ((190, 206, 214), (220, 160, 70), (150, 50, 56)))
    pen.shadow(0.45, 0.15, -0.03)
    pen.shape((206, 214, 218), (-0.3, -1.0), (0.3, -1.0), (0.24, 0.0), (-0.24, 0.0))
    pen.shape(drink, (-0.26, -0.68), (0.26, -0.68), (0.22, -0.05), (-0.22, -0.05))
    pen.bar((240, 244, 246), (-0.18, -0.92), (-0.15, -0.15), 0.06)


def bowl(pen: Pen, rng: np.random.Generator) -> None:
    """Clutter: a bowl of fruit, two units wide."""
    clay = pick(rng, ((120, 84, 64), (206, 200, 190), (80, 104, 120)))
    pen.shadow(1.1, 0.4)
    for _ in range(5):
        fruit = pick(rng, ((200, 60, 50), (226, 160, 50), (120, 160, 70), (214, 196, 80)))
        u, v = rng.uniform(-0.55, 0.55), rng.uniform(-0.75, -0.5)
        pen.oval(tone(fruit, 0.7), u, v + 0.05, 0.28, 0.28)
        pen.oval(fruit, u - 0.03, v, 0.24, 0.24)
    pen.shape(clay, (-1.0, -0.5), (1.0, -0.5), (0.6, 0.02), (-0.6, 0.02))
    pen.shape(tone(clay, 0.75), (0.3, -0.5), (1.0, -0.5), (0.6, 0.02), (0.25, 0.02))


def papers(pen: Pen, rng: np.random.Generator) -> None:
    """Clutter: written sheets, one unit wide."""
    for shift in (0.12, 0.0):
        turn = rng.uniform(-0.12, 0.12)
        pen.shape(
            tone((232, 230, 222), 1 - shift),
            (-0.5 + shift, -0.7 + turn),
            (0.5 + shift, -0.7 - turn),
            (0.5 + shift, 0.7 - turn),
            (-0.5 + shift, 0.7 + turn),
        )
    for line in range(6):
        pen.bar((150, 150, 154), (-0.36, -0.5 + 0.17 * line), (rng.uniform(0.0, 0.36), -0.5 + 0.17 * line), 0.04)


def plant(pen: Pen, rng: np.random.Generator) -> None:
    """Clutter: a plant in its pot, 1.4 units high."""
    green = pick(rng, ((70, 116, 62), (96, 130, 76), (50, 92, 62)))
    pen.shadow(0.4, 0.14)
    pot = pick(rng, ((160, 96, 66), (214, 208, 200), (90, 94, 98)))
    pen.shape(pot, (-0.3, -0.5), (0.3, -0.5), (0.22, 0), (-0.22, 0))
    for _ in range(8):
        tip = (rng.uniform(-0.55, 0.55), rng.uniform(-1.4, -0.7))
        pen.bar(tone(green, rng.uniform(0.7, 1.2)), (tip[0] * 0.2, -0.45), tip, 0.08, 2.4)


def tree(pen: Pen, rng: np.random.Generator) -> None:
    """Clutter: a tree, one unit high."""
    green = pick(rng, ((62, 100, 50), (90, 116, 60), (130, 110, 54)))
    pen.shadow(0.3, 0.05)
    pen.bar((84, 64, 50), (0, 0), (rng.uniform(-0.03, 0.03), -0.6), 0.06, 0.6)
    for step in range(7):
        u, v, radius = rng.uniform(-0.2, 0.2), rng.uniform(-0.88, -0.5), rng.uniform(0.1, 0.2)
        pen.oval(tone(green, 0.7 + 0.07 * step), u, v, radius, radius * 0.85)


def towel(pen: Pen, rng: np.random.Generator) -> None:
    """Clutter: a striped towel on the sand, two units long."""
    first, second = pick(rng, CLOTHES), (232, 226, 214)
    for stripe in range(6):
        u = -1.0 + stripe / 3
        pen.shape(first if stripe % 2 else second, (u + 0.1, -0.3), (u + 0.43, -0.3), (u + 0.33, 0.1), (u, 0.1))


# The vague drawing of each label; a decoy is the same drawing for an absent label. `draw` scales the glove's lump, so
# that dogs and gloves share a brush.
VAGUE_BRUSHES: dict[str, Brush] = {
    "person": vague_figure,
    "dog": vague_lump,
    "ball": vague_dot,
    "bat": vague_stick,
    "glove": vague_lump,
    "umbrella": vague_canopy,
    "boat": vague_hull,
    "car": vague_block,
    "traffic light": vague_pole,
    "plate": vague_disc,
    "fork": vague_cutlery,
    "knife": vague_cutlery,
    "cup": vague_pot,
    "laptop": vague_panel,
    "keyboard": vague_strip,
    "mouse": vague_pebble,
}

CLUTTER: dict[str, Brush] = {
    "low table": low_table,
    "glass": glass,
    "bowl": bowl,
    "papers": papers,
    "plant": plant,
    "tree": tree,
    "towel": towel,
}
