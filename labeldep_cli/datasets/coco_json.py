"""A user's own labels as a COCO-format JSON."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.datasets.coco import load_json
from labeldep_cli.datasets.rows import Rows


def read(file: Path) -> Rows:
    """Read a COCO-format JSON; an image without annotations is one without labels, which a note says.

    Raises:
        DatasetError: the file is no COCO-format JSON; it names what is wrong in it.
    """
    found = load_json(file)
    empty = int((~found.annotated).sum())
    # Unlike COCO's own images, which the papers leave out, a user's image without annotations is one without labels.
    notes = (f"{empty} of {len(found.files)} images have no annotation: they count as images without labels",)
    return Rows(found.files, found.labels, found.space.names, None, notes=notes if empty else ())
