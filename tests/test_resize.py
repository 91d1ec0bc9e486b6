"""The resize of a tensor beside Pillow's own: the same bits, for every size and in either order of its passes."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from labeldep_cli.features import resize
from labeldep_cli.features.resize import height_first, resized, weights

NEWER = int(PIL.__version__.split(".")[0]) >= 13


def pixels(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Noise; in every third image of black and white only, where clipping shows."""
    made = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.where(made > 127, 255, 0).astype(np.uint8) if seed % 3 == 0 else made


def by_pillow(image: np.ndarray, width: int, height: int) -> np.ndarray:
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(scaled).transpose(2, 0, 1)


def here(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return resized(torch.from_numpy(image).permute(2, 0, 1), height, width).numpy()


SIZES = [
    (20, 400, 96, 96),  # its height comes first since Pillow 13
    (400, 20, 96, 96),
    (640, 480, 224, 224),
    (480, 640, 224, 224),
    (500, 375, 299, 299),
    (224, 224, 224, 224),
    (224, 300, 224, 224),  # one pass
    (300, 224, 224, 224),
    (1, 1, 5, 7),
    (3, 1, 224, 224),
    (150, 200, 100, 100),  # twice as many rows go as columns: the width is first
    (150, 201, 100, 100),  # one row more: the height is
    (100, 50, 150, 49),
    (2600, 1700, 224, 224),
]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_tensor_is_resized_to_pillow_s_bits(size: tuple[int, int, int, int]) -> None:
    width, height, *new = size
    image = pixels(width, height, seed=sum(size))
    assert (here(image, *new) == by_pillow(image, *new)).all()


def test_any_size_is() -> None:
    draws = np.random.default_rng(7)
    for seed in range(150):
        size = draws.integers(1, 400, 4)
        image = pixels(int(size[0]), int(size[1]), seed)
        assert (here(image, *map(int, size[2:])) == by_pillow(image, *map(int, size[2:]))).all(), size


def test_before_pillow_13_the_width_was_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes of Pillow, in that order, are the resize of older versions."""
    monkeypatch.setattr(resize, "_HEIGHT_MAY_BE_FIRST", False)
    image = pixels(20, 400, 1)
    in_two = by_pillow(by_pillow(image, 96, 400).transpose(1, 2, 0), 96, 96)
    assert (here(image, 96, 96) == in_two).all()
    assert bool((in_two != by_pillow(image, 96, 96)).any()) == NEWER


@pytest.mark.skipif(not NEWER, reason="the order of Pillow 13")
@pytest.mark.parametrize(("rows", "columns", "first"), [(2, 1, False), (3, 1, True), (1, -5, True), (0, -5, False)])
def test_the_height_is_first_where_many_more_rows_go(rows: int, columns: int, first: bool) -> None:
    assert height_first(rows, columns) is first


def test_weights_by_hand() -> None:
    """Two pixels to one are averaged with a triangle of two pixels on either side; one to two copies it."""
    assert weights(2, 1).tolist() == [[2**21, 2**21]]
    assert weights(1, 2).tolist() == [[2**22], [2**22]]
    assert weights(2, 4)[1].tolist() == [0.75 * 2**22, 0.25 * 2**22]
