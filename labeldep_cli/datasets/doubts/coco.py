"""What a JSON that is nearly COCO's format may be instead, and the command that reads it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt

SAME_IDS = "Or write all ids the same way."

_LVIS = ("neg_category_ids", "not_exhaustive_category_ids")
"""Keys of images that tell which labels are known."""


def no_coco(parsed: object, kind: str) -> Doubt:
    """What to do with a JSON that lacks one of COCO's lists.

    Args:
        parsed: the content of the file.
        kind: the name of the list.
    """
    what = f"it is not in COCO's format: it has no list {kind!r}"
    form = "A COCO-format JSON holds the lists images, annotations and categories."
    first = parsed[0] if isinstance(parsed, list) and parsed else None
    if isinstance(first, dict) and {"image_id", "category_id", "score"} <= first.keys():
        return Doubt(f"{what}; it is a list of results, which names no images", (), form)
    return Doubt(what, (TO_IMPORT,), form)


def unlisted(annotation: Mapping[str, Any], key: str, known: Collection[Any]) -> Doubt:
    """What to do with an annotation of an image or a category that is not listed.

    Args:
        annotation: the annotation.
        key: "image_id" or "category_id".
        known: the ids that are listed.
    """
    value = annotation[key]
    what = f"annotation {annotation['id']!r} has the {key} {value!r}, which is not listed"
    if str(value) in set(map(str, known)):
        return Doubt(f"{what}, except as {'a number' if isinstance(value, str) else 'text'}", (TO_IMPORT,), SAME_IDS)
    left_out = Answer("To leave such annotations out", {"drop_broken": True})
    return Doubt(what, (left_out,), "Or add it to images or categories.")


def require_all_known(path: Path, images: Sequence[Mapping[str, Any]], annotations: Collection[Any]) -> None:
    """Refuse images with labels of their own: in COCO's format, what no annotation names is absent.

    Raises:
        DatasetError: names the key.
    """
    for key in _LVIS:
        if any(key in image for image in images):
            raise Doubt(
                f"its images have {key!r}: as in LVIS, most labels that are not annotated are unknown, not absent",
                (TO_IMPORT,),
            ).error(path)
    if not annotations and any("labels" in image for image in images):
        raise Doubt("the list 'annotations' is empty, but images have 'labels'", (TO_IMPORT,)).error(path)
