"""COCO 2014 (Lin et al., 2014), with instance annotations read as label sets; and a user's own COCO-format JSON."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.doubts.coco import SAME_IDS, no_coco, require_all_known, unlisted
from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt
from labeldep_cli.datasets.draw import Draw, hold_out_published
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Dataset, Split, label_space, require_unique
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS, read_splits
from labeldep_cli.errors import DatasetError

if TYPE_CHECKING:
    from pycocotools.coco import COCO

_BULK = ("segmentation", "bbox")
"""Geometry, which label sets do not need: 90 % of an annotation file, and 2 GB of Python objects for train2014."""


@dataclass(frozen=True)
class CocoAnnotations:
    """The label sets of one COCO-format file with N images, ordered by image id.

    Attributes:
        image_ids: N ids, numbers or strings.
        files: N file names as written in the JSON.
        labels: int8 [N, L] in {0, 1}; a crowd annotation makes a label present.
        annotated: bool [N], whether the image has any annotation.
        space: the category names, by ascending category id.
        category_ids: the L ids.
        splits: the split of each image; None if the file names none.
    """

    image_ids: tuple[int | str, ...]
    files: tuple[str, ...]
    labels: NDArray[np.int8]
    annotated: NDArray[np.bool_]
    space: LabelSpace
    category_ids: tuple[int | str, ...]
    splits: tuple[str, ...] | None = None


def load(data_dir: Path, draw: Draw) -> Dataset:
    """Load COCO 2014 from `data_dir`/coco: test = val2014, val = a held-out part of train2014.

    Images without any annotation are left out (82,081 of 82,783 and 40,137 of 40,504 images remain).

    Raises:
        DatasetError: an annotation file is missing or not in COCO's format, or the two files have different categories.
    """
    root = data_dir / "coco"
    for year in ("train2014", "val2014"):
        if not _annotation_file(root, year).is_file():
            raise DatasetError(f"COCO's annotation file {_annotation_file(root, year)} is missing", _how_to_get(root))
    notes: list[str] = []
    train = _read_split(root, "train2014", "train", notes)
    test = _read_split(root, "val2014", "test", notes)
    if train.space != test.space:
        raise DatasetError(f"the categories of train2014 and val2014 in {root}/annotations differ", _how_to_get(root))
    kept, held_out, flags = hold_out_published(train.paths, train.labels, draw.val_fraction, draw, "val")
    notes.append(
        f"val = {len(held_out)} of train2014's {len(train)} images, held out "
        f"(--val-fraction {draw.val_fraction}, {flags})"
    )
    splits = {"train": train.subset("train", kept), "val": train.subset("val", held_out), "test": test}
    return Dataset("coco", splits, named=True, notes=tuple(notes), drawn=frozenset({"val"}), place=root)


def load_json(path: Path) -> CocoAnnotations:
    """Read any COCO-format JSON with pycocotools.

    Raises:
        DatasetError: the file is missing, not JSON or not in COCO's format; an id or file name is used twice; or an
            annotation has an image or category that the file does not list.
    """
    index = _index(path)
    try:
        images = sorted(index.imgs.values(), key=lambda image: image["id"])
        categories = sorted(index.cats.values(), key=lambda category: category["id"])
    except TypeError:
        raise Doubt("ids are partly numbers, partly strings", (TO_IMPORT,), SAME_IDS).error(path) from None
    require_all_known(path, images, index.anns)
    names, files = [c.get("name") for c in categories], [i.get("file_name") for i in images]
    _require_strings(path, "category", "name", names, [c["id"] for c in categories])
    _require_strings(path, "image", "file_name", files, [i["id"] for i in images])
    require_unique(files, path)
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        raise Doubt(
            f"two categories are called {repeated[0]!r}",
            (Answer("To make one label of them", {}),),
            "Or rename one.",
        ).error(path)
    space = label_space(names, path)
    rows, columns = _entries(path, index, images, categories)
    labels = np.zeros((len(images), len(space)), dtype=np.int8)
    labels[rows, columns] = 1
    annotated = np.zeros(len(images), dtype=np.bool_)
    annotated[rows] = True
    return CocoAnnotations(
        image_ids=tuple(image["id"] for image in images),
        files=tuple(files),
        labels=labels,
        annotated=annotated,
        space=space,
        category_ids=tuple(category["id"] for category in categories),
        splits=_splits(path, images),
    )


def _annotation_file(root: Path, year: str) -> Path:
    return root / "annotations" / f"instances_{year}.json"


def _how_to_get(root: Path) -> str:
    return (
        "Run: labeldep data coco --download\n"
        "Or download the official archives http://images.cocodataset.org/zips/train2014.zip (13.5 GB), "
        "http://images.cocodataset.org/zips/val2014.zip (6.6 GB) and "
        "http://images.cocodataset.org/annotations/annotations_trainval2014.zip (0.24 GB), and unpack all three "
        f"in {root}, so that it holds annotations/instances_train2014.json, annotations/instances_val2014.json, "
        "train2014/ and val2014/. If COCO lies elsewhere, name the folder above coco/ with --data-dir. "
        "See data/README.md."
    )


def _read_split(root: Path, year: str, name: str, notes: list[str]) -> Split:
    """Read the annotated images of one year's file; notes about images that are left out or missing go into `notes`."""
    file = _annotation_file(root, year)
    annotations = load_json(file)
    rows = np.flatnonzero(annotations.annotated)
    if len(rows) == 0:
        raise DatasetError(f"{file} annotates no image", _how_to_get(root))
    dropped = len(annotations.files) - len(rows)
    if dropped:
        notes.append(f"{dropped} of {len(annotations.files)} images of {year} have no annotation and are left out")
    if not (root / year).is_dir():
        notes.append(f"the image folder {root / year} is missing")
    paths = tuple(f"{year}/{annotations.files[row]}" for row in rows)
    return Split(name, paths, annotations.labels[rows], annotations.space, root)


def _index(path: Path) -> COCO:
    """Parse a file and index it with pycocotools, whose messages on stdout are suppressed."""
    from pycocotools.coco import COCO

    parsed = _parse(path)
    index = COCO()
    index.dataset = parsed
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            index.createIndex()
    except (KeyError, TypeError, AttributeError) as error:
        why = f"an entry lacks the key {error}" if isinstance(error, KeyError) else str(error)
        raise Doubt(
            f"it is not in COCO's format: {why}",
            (TO_IMPORT,),
            "Every image and category needs an id; every annotation needs an id, an image_id and a category_id.",
        ).error(path) from None
    for kind, indexed in (("images", index.imgs), ("annotations", index.anns), ("categories", index.cats)):
        if len(indexed) != len(parsed[kind]):  # the index keeps only the last entry of each id
            repeated, _ = Counter(entry["id"] for entry in parsed[kind]).most_common(1)[0]
            raise Doubt(
                f"the id {repeated!r} is used twice among its {kind}", (TO_IMPORT,), "Give each its own id."
            ).error(path)
    return index


def _parse(path: Path) -> dict[str, Any]:
    def without_bulk(entry: dict[str, Any]) -> dict[str, Any]:
        for key in _BULK:
            entry.pop(key, None)
        return entry

    try:
        with path.open(encoding="utf-8-sig") as file:
            # Labels need no floats. Parsing the polygons' floats takes three quarters of the time: keep them as text.
            parsed: Any = json.load(file, object_hook=without_bulk, parse_float=str)
    except FileNotFoundError:
        raise DatasetError(f"there is no file {path}", "Check the path.") from None
    except OSError as error:
        raise DatasetError(f"{path} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not UTF-8 (byte {error.start})", "Save it as UTF-8, or get it again.") from None
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{path} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            "It may be cut off: unpack or download it again.",
        ) from None
    except RecursionError:
        raise DatasetError(f"{path} is not in COCO's format: it is nested too deeply", "Check the file.") from None
    for kind in ("images", "annotations", "categories"):
        if not isinstance(parsed, dict) or not isinstance(parsed.get(kind), list):
            raise no_coco(parsed, kind).error(path)
    annotations: dict[str, Any] = parsed
    return annotations


def _splits(path: Path, images: list[dict[str, Any]]) -> tuple[str, ...] | None:
    """The splits of images that have a `split`, or a key that means it."""
    key = next((key for key in SPLIT_COLUMNS if any(key in image for image in images)), None)
    if key is None:
        return None
    words = [image.get(key, "") for image in images]
    return tuple(read_splits(path, key, words, lambda row: f"image {images[row]['id']!r}"))


def _require_strings(path: Path, kind: str, key: str, values: list[Any], ids: list[Any]) -> None:
    for value, identity in zip(values, ids, strict=True):
        if not isinstance(value, str) or not value:
            raise DatasetError(f"{path}: {kind} {identity!r} has no {key}", f"Give every {kind} a {key}.")


def _entries(
    path: Path, index: COCO, images: list[dict[str, Any]], categories: list[dict[str, Any]]
) -> tuple[list[int], list[int]]:
    """Row and column of every annotation."""
    row_of = {image["id"]: row for row, image in enumerate(images)}
    column_of = {category["id"]: column for column, category in enumerate(categories)}
    rows: list[int] = []
    columns: list[int] = []
    for annotation in index.anns.values():
        for key, known in (("image_id", row_of), ("category_id", column_of)):
            if annotation[key] not in known:
                raise unlisted(annotation, key, known).error(path)
        rows.append(row_of[annotation["image_id"]])
        columns.append(column_of[annotation["category_id"]])
    return rows, columns
