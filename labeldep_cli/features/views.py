"""The paper's crops (Sect. 4.1): which parts of an image a network gets.

A view is one way to crop and scale an image. View 0 is the test transform: the image framed to a square of side x side,
by default the full image scaled. Views 1 to 20 are the crops of the training augmentation: the image is framed to a
square of 256 x 256, a square of 224, 192, 168 or 128 pixels is cut at one of the four corners or the centre, and is
scaled to side x side. The crop of 256 pixels is the full square at every position, so it is view 0. For input images
above 224 pixels all these lengths grow with the side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labeldep_cli.features.framing import PAPER_FRAMING, RESIZED, WHITE, Colour, Framing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

CROP_SIDES = (256, 224, 192, 168, 128)
POSITIONS = ("top left", "top right", "bottom left", "bottom right", "centre")
N_VIEWS = 1 + (len(CROP_SIDES) - 1) * len(POSITIONS)


def crop_box(view: int, resized: int = RESIZED) -> tuple[int, int, int, int]:
    """The box of a crop in the square that it is cut from.

    Args:
        view: 1..20; four crop sizes from the largest to the smallest, each with five positions.
        resized: height and width of that square in pixels.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    block, position = divmod(view - 1, len(POSITIONS))
    side = round(CROP_SIDES[block + 1] * resized / RESIZED)
    room = resized - side
    left, top = ((0, 0), (room, 0), (0, room), (room, room), (room // 2, room // 2))[position]
    return left, top, left + side, top + side


def view_of_draw(draw: NDArray[np.integer] | Any) -> Any:  # noqa: ANN401 - array or tensor in, the same out
    """Map a random number from 0..24 to a view.

    The paper draws one of five sizes and one of five positions. All five positions of the largest crop are view 0.
    """
    return (draw - (len(POSITIONS) - 1)).clip(0)


N_DRAWS = len(CROP_SIDES) * len(POSITIONS)


def cut(
    image: Image.Image, views: tuple[int, ...], framing: Framing = PAPER_FRAMING, background: Colour = WHITE
) -> NDArray[np.uint8]:
    """Cut views out of an image.

    Args:
        image: RGB, any size.
        views: which views, each 0..20.
        framing: how the image becomes a square.
        background: the colour of bands, if the framing adds any.

    Returns:
        uint8 [V, 3, side, side], channels last in memory: Pillow gives this layout, and convolutions are fast with it.
    """
    import numpy as np
    from PIL import Image

    side, larger = framing.side, framing.for_crops
    filter_ = Image.Resampling[framing.interpolation.upper()]
    resized: Image.Image | None = None
    planes = np.empty((len(views), side, side, 3), dtype=np.uint8)
    for k, view in enumerate(views):
        if view == 0:
            scaled = framing.frame(image, background)
        else:
            if resized is None:
                resized = larger.frame(image, background)
            scaled = resized.crop(crop_box(view, larger.side)).resize((side, side), filter_)
        planes[k] = np.asarray(scaled)
    return planes.transpose(0, 3, 1, 2)
