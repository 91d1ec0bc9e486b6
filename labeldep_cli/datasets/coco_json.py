"""Read a user's own labels from a COCO-format JSON."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.datasets.coco import load_json
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.errors import DatasetError


def read(file: Path) -> Rows:
    """Read a COCO-format JSON. An image without annotations has no labels; a note reports such images.

    A `split` of every image in `images`, or `subset` and the like, is read.

    Raises:
        DatasetError: the file is no COCO-format JSON, or annotates no image; names the problem.
    """
    content = load_json(file)
    empty = int((~content.annotated).sum())
    if 0 < empty == len(content.files):
        raise DatasetError(
            f"{file} has {empty} images and no annotation",
            "Name the file with the annotations; this one has no labels.",
        )
    # In COCO itself, papers leave images without annotations out. In a user's file they are images without labels.
    notes = (f"{empty} of {len(content.files)} images have no annotation: they count as images without labels",)
    return Rows(content.files, content.labels, content.space.names, content.splits, notes=notes if empty else ())
