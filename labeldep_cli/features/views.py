"""The paper's crops (Sect. 4.1): which parts of an image a network gets.

A view is one way to crop and scale an image. View 0 is the test transform: the full image scaled to side x side. Views
1 to 20 are the crops of the training augmentation: the image is scaled to 256 x 256, a square of 224, 192, 168 or 128
pixels is cut at one of the four corners or the centre, and is scaled to side x side. The crop of 256 pixels is the
full image at every position, so it is view 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the backbones' table takes SIDE from here, and a shell completes their names without numpy
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

SIDE = 224
"""Height and width in pixels of the paper's input images."""

RESIZED = 256
CROP_SIDES = (256, 224, 192, 168, 128)
POSITIONS = ("top left", "top right", "bottom left", "bottom right", "centre")
N_VIEWS = 1 + (len(CROP_SIDES) - 1) * len(POSITIONS)


def crop_box(view: int) -> tuple[int, int, int, int]:
    """The box of a crop in the 256 x 256 image.

    Args:
        view: 1..20; four crop sizes from the largest to the smallest, each with five positions.

    Returns:
        (left, top, right, bottom) in pixels.
    """
    block, position = divmod(view - 1, len(POSITIONS))
    side = CROP_SIDES[block + 1]
    room = RESIZED - side
    left, top = ((0, 0), (room, 0), (0, room), (room, room), (room // 2, room // 2))[position]
    return left, top, left + side, top + side


def view_of_draw(draw: NDArray[np.integer] | Any) -> Any:  # noqa: ANN401 - array or tensor in, the same out
    """Map a random number from 0..24 to a view.

    The paper draws one of five sizes and one of five positions. All five positions of the largest crop are view 0.
    """
    return (draw - (len(POSITIONS) - 1)).clip(0)


N_DRAWS = len(CROP_SIDES) * len(POSITIONS)


def cut(image: Image.Image, views: tuple[int, ...], side: int = SIDE) -> NDArray[np.uint8]:
    """Cut views out of an image.

    Resizing is Pillow's antialiased bilinear resizing, here and everywhere. That of torchvision on tensors differs
    enough to change a probability by more than 0.04.

    Args:
        image: RGB, any size.
        views: which views, each 0..20.
        side: height and width of each view in pixels.

    Returns:
        uint8 [V, 3, side, side], channels last in memory: Pillow gives this layout, and convolutions are fast with it.
    """
    import numpy as np
    from PIL import Image

    resized: Image.Image | None = None
    planes = np.empty((len(views), side, side, 3), dtype=np.uint8)
    for k, view in enumerate(views):
        if view == 0:
            scaled = image.resize((side, side), Image.Resampling.BILINEAR)
        else:
            if resized is None:
                resized = image.resize((RESIZED, RESIZED), Image.Resampling.BILINEAR)
            scaled = resized.crop(crop_box(view)).resize((side, side), Image.Resampling.BILINEAR)
        planes[k] = np.asarray(scaled)
    return planes.transpose(0, 3, 1, 2)
