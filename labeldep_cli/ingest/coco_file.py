"""One COCO-format JSON in any of its variants: COCO, LVIS (Gupta et al., 2019), labels within the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import import_again
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.json_text import read_json
from labeldep_cli.ingest.words import some

_BULK = ("segmentation", "bbox", "keypoints")
"""Geometry, which label sets do not need: 90 % of an annotation file."""

_FILE_KEYS = ("file_name", "filename", "path", "coco_url", "url")
_LABEL_KEYS = ("labels", "label", "tags", "categories", "category_ids")
_NAME_KEYS = ("name", "label", "LabelName", "category", "category_id", "id")
_NEGATIVE = "neg_category_ids"
_MOST_NAMES = 1000
"""Names in the line that a remedy gives as an example."""

_ZERO = ("0", "0.0", "False")

Object = Mapping[str, Any]


class CocoFile:
    """The images of one file, added to a reading.

    Args:
        file: the JSON.
        reading: takes the images and what there is to tell.
    """

    def __init__(self, file: Path, reading: Reading) -> None:
        self._file, self._reading = file, reading
        content = read_json(file, reading.config.encoding, _BULK, floats=False)
        if isinstance(content, list):
            raise DatasetError(
                f"{file} is a list of results of a detector: it has no images and no names of categories",
                "Name the file with the annotations that it was computed for.",
            )
        self._images, self._annotations = (self._objects(content, key) for key in ("images", "annotations"))
        if not self._images:
            raise DatasetError(f"{file} lists no images", "A COCO-format JSON has a list `images`.")
        self._names = self._category_names(self._objects(content, "categories"))
        self._values: dict[str, dict[str, int]] = {}
        self._open: set[str] = set()
        """Images of which the file does not say that all other labels are absent."""

    def add(self, finder: ImageFinder, split: str | None) -> None:
        """Add the images to the reading.

        Args:
            finder: finds their files.
            split: of all images, unless they name their own.
        """
        path_of = self._paths()
        self._add_annotations(path_of)
        self._add_own_labels(path_of)
        if not any(self._values.values()):
            raise DatasetError(f"{self._file} annotates no image", "Name the file with the annotations.")
        splits = {path_of[_key(image["id"])]: self._split(image) for image in self._images if self._is_kept(image)}
        for path, values in self._values.items():
            unsaid = UNKNOWN if path in self._open else 0
            self._reading.entries.append(Entry(finder.find(path), values, unsaid, splits[path] or split))
        bare = [path for path, values in self._values.items() if not values]
        if without := [path for path in bare if path not in self._open]:
            self._tell(f"images without an annotation, which have no label: {some(without)}")
        if unknown := [path for path in bare if path in self._open]:
            self._tell(f"images without an annotation, of which no label is known: {some(unknown)}")

    def _objects(self, content: object, key: str) -> list[Any]:
        found = content.get(key) if isinstance(content, dict) else None
        return found if isinstance(found, list) else []

    def _tell(self, sentence: str) -> None:
        self._reading.understood.append(f"{self._file.name}: {sentence}")

    def _category_names(self, categories: list[Any]) -> dict[str, str]:
        """The names of the categories by id; those of --label-names if the file has none."""
        names: dict[str, str] = {}
        for category in categories:
            name = category.get("name") if isinstance(category, dict) else None
            if not isinstance(name, str) or not name.strip() or category.get("id") is None:
                raise DatasetError(f"{self._file}: the category {category!r} has no name or no id", "Give it both.")
            if _key(category["id"]) in names:
                raise DatasetError(f"{self._file}: two categories have the id {category['id']!r}", "Correct it.")
            names[_key(category["id"])] = name.strip()
        twice = [name for name, count in Counter(names.values()).items() if count > 1]
        if twice:
            self._tell(f"categories of one name are one label: {some(twice)}")
        used = {_key(a["category_id"]) for a in self._annotations if isinstance(a, dict) and "category_id" in a}
        if not names and used:
            names = self._numbered_names(sorted(used, key=lambda number: (len(number), number)))
        self._reading.declared += [name for name in names.values() if name not in self._reading.declared]
        return names

    def _numbered_names(self, used: list[str]) -> dict[str, str]:
        """The names of --label-names for the ids 1, 2, ... (or 0, 1, ... if 0 is used)."""
        given = self._reading.config.label_names
        first = 0 if "0" in used else 1
        numbers = [str(first + position) for position in range(len(given))]
        if not given or not set(used) <= set(numbers):
            last = max((int(number) for number in used if number.isdecimal()), default=len(used))
            blank = tuple(f"label{number}" for number in range(first, min(last, _MOST_NAMES) + 1))
            raise DatasetError(
                f"{self._file} has no list `categories` and so no names for the categories "
                f"{', '.join(used[:5])}{', ...' if len(used) > 5 else ''}",
                "Name them in the order of their ids:\n"
                + import_again(self._reading.source, self._reading.config, label_names=blank),
            )
        self._tell(f"categories {first} to {numbers[-1]} are called as --label-names says")
        return dict(zip(numbers, given, strict=True))

    def _is_kept(self, image: object) -> bool:
        return isinstance(image, dict) and image.get("id") is not None and bool(_file_of(image))

    def _paths(self) -> dict[str, str]:
        """The path of each image by its id. Images with the same path are one image."""
        path_of: dict[str, str] = {}
        for position, image in enumerate(self._images, start=1):
            if not self._is_kept(image):
                self._reading.drop(f"{self._file}: entry {position} of images has no id or no file_name")
                continue
            key = _key(image["id"])
            if key in path_of:
                raise DatasetError(f"{self._file}: two images have the id {image['id']!r}", "Give each its own id.")
            path_of[key] = _file_of(image)
            self._values.setdefault(path_of[key], {})
        repeated = [path for path, count in Counter(path_of.values()).items() if count > 1]
        if repeated:
            self._tell(f"images that are listed more than once are one image: {some(repeated)}")
        return path_of

    def _add_annotations(self, path_of: Mapping[str, str]) -> None:
        denied = False
        for number, annotation in enumerate(self._annotations, start=1):
            known = annotation if isinstance(annotation, dict) else {}
            path = path_of.get(_key(known.get("image_id")))
            name = self._names.get(_key(known.get("category_id")))
            if path is None or name is None:
                self._drop_annotation(annotation, number, path is None)
                continue
            value = 0 if str(known.get("confidence", 1)) in _ZERO else 1
            denied = denied or not value
            self._note(path, name, value)
        if denied:
            self._tell("a confidence of 0 means absent; labels that are not listed are unknown")
            self._open |= self._values.keys()
        kinds = [
            {type(o.get(key)) for o in objects if isinstance(o, dict)} - {type(None)}
            for objects, key in ((self._images, "id"), (self._annotations, "image_id"))
        ]
        if kinds[1] and kinds[0] != kinds[1]:
            self._tell("ids are written as numbers in one place and as text in another; equal ones are the same")

    def _drop_annotation(self, annotation: object, number: int, no_image: bool) -> None:
        if not isinstance(annotation, dict):
            self._reading.drop(f"{self._file}: entry {number} of annotations is no object")
            return
        where = f"{self._file}: annotation {annotation.get('id', number)!r}"
        key, listed = ("image_id", "images") if no_image else ("category_id", "categories")
        if annotation.get(key) is None:
            self._reading.drop(f"{where} has no {key}")
        else:
            self._reading.drop(f"{where} has the {key} {annotation[key]!r}, which is not listed", f"Add it to {listed}")

    def _add_own_labels(self, path_of: Mapping[str, str]) -> None:
        """Labels within `images`: names, ids or objects; and LVIS's list of categories that are verified absent."""
        with_labels = opposed = 0
        for image in filter(self._is_kept, self._images):
            path = path_of[_key(image["id"])]
            own = next((image[key] for key in _LABEL_KEYS if isinstance(image.get(key), list)), None)
            for item in own or ():
                name, value = self._own_label(item, path)
                self._note(path, name, value)
                if not value:
                    self._open.add(path)
            with_labels += bool(own)
            for category in self._objects(image, _NEGATIVE):
                if absent := self._names.get(_key(category)):
                    opposed += self._values[path].get(absent) == 1
                    self._values[path].setdefault(absent, 0)
            if _NEGATIVE in image:
                self._open.add(path)
        if with_labels and self._annotations:
            self._tell(f"labels are in annotations and in images, and both are read: {with_labels} images")
        if any(isinstance(image, dict) and _NEGATIVE in image for image in self._images):
            more = f" ({opposed} times they are annotated, too, and taken as present)" if opposed else ""
            self._tell(f"as in LVIS, {_NEGATIVE} are absent{more}; what is neither annotated nor there is unknown")

    def _own_label(self, item: Any, path: str) -> tuple[str, int]:  # noqa: ANN401
        """Name and value of a label within `images`."""
        value, name = 1, item
        if isinstance(item, dict):
            confidence = item.get("confidence", item.get("Confidence", 1))
            value = 0 if str(confidence) in _ZERO else 1
            name = next((item[key] for key in _NAME_KEYS if key in item), None)
        if isinstance(name, int) and not isinstance(name, bool):
            name = self._names.get(_key(name))
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{self._file}: {path!r} has a label without a name", "Write names, or listed ids.")
        return name.strip(), value

    def _note(self, path: str, name: str, value: int) -> None:
        self._values[path][name] = max(value, self._values[path].get(name, value))

    def _split(self, image: Object) -> str | None:
        word = image.get("split", image.get("subset"))
        if word is not None and split_of(word) is None:
            raise DatasetError(
                f"{self._file}: {_file_of(image)!r} has the split {word!r}", "A split is train, val or test."
            )
        return split_of(word)


def _key(number: object) -> str:
    """An id as text: 1, 1.0 and "1" are the same."""
    return str(number).removesuffix(".0")


def _file_of(image: Object) -> str:
    found: Iterable[Any] = (image.get(key) for key in _FILE_KEYS)
    return next((name for name in found if isinstance(name, str) and name.strip()), "")
