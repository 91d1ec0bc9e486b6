"""The numbers published in the paper: Tables 1, 2 and 3, in per cent.

Label sets are those with p > 0.5; for WARP, CNN-RNN and RLSD they are the top 3 labels.
"""

from __future__ import annotations

from collections.abc import Mapping

COLUMNS = ("CP", "CR", "CF1", "OP", "OR", "OF1")

_Numbers = tuple[float, float, float, float, float, float]

TABLE_1: Mapping[str, _Numbers] = {
    "WARP": (59.3, 52.5, 55.7, 59.8, 61.4, 60.7),
    "CNN-RNN": (66.0, 55.6, 60.4, 69.2, 66.4, 67.8),
    "Att-RNN": (71.6, 54.8, 62.1, 74.2, 62.2, 67.7),
    "RLSD": (67.6, 57.2, 62.0, 70.1, 63.4, 66.5),
    "vgg16": (74.2, 44.8, 56.0, 77.6, 52.5, 62.6),
    "vgg16 + WGAN-gp": (62.6, 58.3, 60.4, 67.5, 63.3, 65.3),
    "inception_v3": (76.4, 52.8, 62.4, 80.0, 58.8, 67.8),
    "inception_v3 + WGAN-gp": (70.5, 58.2, 63.8, 73.2, 63.8, 68.2),
    "resnet101": (76.2, 53.4, 62.8, 80.8, 58.9, 68.1),
    "resnet101 + WGAN-gp": (70.5, 58.7, 64.0, 72.3, 64.6, 68.2),
    "resnet152": (76.6, 53.9, 63.3, 80.6, 59.6, 68.6),
    "resnet152 + WGAN-gp": (71.4, 57.9, 63.9, 73.6, 64.2, 68.6),
}
"""MS-COCO, 80 labels."""

TABLE_2: Mapping[str, _Numbers] = {
    "WARP": (31.7, 35.6, 33.5, 48.6, 60.5, 53.9),
    "CNN-RNN": (40.5, 30.4, 34.7, 49.9, 61.7, 55.2),
    "Att-RNN": (59.4, 50.7, 54.7, 69.0, 71.4, 70.2),
    "RLSD": (44.4, 49.6, 46.9, 54.4, 67.6, 60.3),
    "vgg16": (53.3, 24.9, 33.9, 73.9, 59.6, 66.0),
    "vgg16 + WGAN-gp": (51.6, 34.3, 41.2, 68.8, 67.3, 68.1),
    "inception_v3": (67.9, 44.1, 53.5, 74.7, 64.8, 70.3),  # its O-P and O-R give an O-F1 of 69.4
    "inception_v3 + WGAN-gp": (62.4, 50.5, 55.8, 71.4, 70.9, 71.2),
    "resnet101": (67.0, 44.0, 53.1, 76.3, 65.0, 70.2),
    "resnet101 + WGAN-gp": (59.6, 51.8, 55.4, 68.9, 72.8, 70.8),
    "resnet152": (69.1, 41.8, 52.1, 75.9, 65.1, 70.1),
    "resnet152 + WGAN-gp": (65.2, 46.2, 54.1, 71.3, 70.8, 71.1),
}
"""NUS-WIDE, 81 labels."""

TABLE_3: Mapping[str, tuple[float, float]] = {
    "(a)": (62.8, 68.1),
    "(b)": (64.0, 68.3),
    "(c)": (62.2, 67.5),
    "(d)": (62.5, 67.6),
    "(e)": (62.3, 67.1),
}
"""C-F1 and O-F1 with and without parts of the method: MS-COCO, ResNet-101."""

DATA: Mapping[int, str] = {1: "COCO", 2: "NUS-WIDE"}
"""The data sets of Tables 1 and 2."""


def differences(table: int) -> dict[str, dict[str, float]]:
    """The effect of WGAN-gp in Table 1 or 2: + WGAN-gp minus baseline in points, by backbone and column."""
    rows = {1: TABLE_1, 2: TABLE_2}[table]
    pairs = {
        name: (baseline, rows[f"{name} + WGAN-gp"]) for name, baseline in rows.items() if f"{name} + WGAN-gp" in rows
    }
    return {
        name: {column: after - before for column, before, after in zip(COLUMNS, *pair, strict=True)}
        for name, pair in pairs.items()
    }


def numbers(table: int, row: str) -> dict[str, float]:
    """The paper's scores of a row, by column; empty if the paper has no such row."""
    if table == 3:
        return dict(zip(("CF1", "OF1"), TABLE_3.get(row, ()), strict=False))
    return dict(zip(COLUMNS, {1: TABLE_1, 2: TABLE_2}[table].get(row, ()), strict=False))
