"""Read a user's own labels from a COCO-format JSON."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.datasets.coco import load_json
from labeldep_cli.datasets.rows import Rows


def read(file: Path) -> Rows:
    """Read a COCO-format JSON. An image without annotations has no labels; a note reports such images.

    Raises:
        DatasetError: the file is no COCO-format JSON; names the problem.
    """
    content = load_json(file)
    empty = int((~content.annotated).sum())
    # In COCO itself, papers leave images without annotations out. In a user's file they are images without labels.
    notes = (f"{empty} of {len(content.files)} images have no annotation: they count as images without labels",)
    return Rows(content.files, content.labels, content.space.names, None, notes=notes if empty else ())
