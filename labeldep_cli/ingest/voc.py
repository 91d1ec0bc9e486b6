"""Pascal VOC (Everingham et al., 2010): an XML for each image, and lists of the images of each split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.json_text import head_of
from labeldep_cli.ingest.text import read_text
from labeldep_cli.ingest.words import some
from labeldep_cli.ingest.xml_text import parse_xml

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_ANNOTATIONS = "Annotations"


def recognises(source: Path) -> bool:
    """Whether a folder has XML files with the annotation of an image each."""
    if not source.is_dir():
        return False
    first = next((file for part in _parts(source) for file in _files(part)), None)
    return first is not None and "<annotation>" in head_of(first)


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read `Annotations/*.xml` and `ImageSets/Main/*.txt`; or XML files beside the images, in a folder a split.

    A label is present if one of its objects is not marked difficult, and unknown if all are.

    Raises:
        DatasetError: there are no annotations; or an XML cannot be read.
    """
    reading = Reading(source, config)
    for part in _parts(source):
        _read_part(part, reading)
    uncertain = sum(value == UNKNOWN for entry in reading.entries for value in entry.values.values())
    if uncertain:
        reading.understood.append(f"labels that are unknown, since all their objects are marked difficult: {uncertain}")
    return reading.finish(source)


def _parts(source: Path) -> list[Path]:
    """The folders that hold `Annotations`, such as VOC2007 and VOC2012 in VOCdevkit; else the folder itself."""
    if source.name == _ANNOTATIONS:
        return [source.parent]
    if (source / _ANNOTATIONS).is_dir():
        return [source]
    below = sorted(path.parent for pattern in ("*/", "*/*/") for path in source.glob(pattern + _ANNOTATIONS))
    return below or [source]


def _files(part: Path) -> Iterator[Path]:
    if (part / _ANNOTATIONS).is_dir():
        return iter(sorted((part / _ANNOTATIONS).rglob("*.xml")))
    return chain(sorted(part.glob("*.xml")), sorted(part.glob("*/*.xml")))


def _read_part(part: Path, reading: Reading) -> None:
    splits = _listed_splits(part, reading)
    finders: dict[Path, ImageFinder] = {}
    unlisted = []
    known = set()
    for file in _files(part):
        known.add(file.stem)
        if splits and file.stem not in splits:
            unlisted.append(file.stem)
            continue
        try:
            filename, values = _content(parse_xml(file), file)
        except DatasetError as error:
            reading.drop(error.what, error.remedy.rstrip("."))
            continue
        folders = [part / "JPEGImages", part / "images", part]
        beside = file.parent if file.parent.name != _ANNOTATIONS else folders[0]
        finder = finders.setdefault(beside, reading.finder([beside, *folders]))
        # The XML is named after its image. The name within it is often that of a file since renamed.
        path = finder.find(file.stem + (Path(filename).suffix or ".jpg"), file.stem, filename)
        split = splits.get(file.stem) if splits else split_of(file.parent.name)
        reading.entries.append(Entry(path, values, split=split))
    if unlisted:
        reading.understood.append(f"in no list of {part / 'ImageSets'}, left out: {some(unlisted)}")
    if unseen := [name for name in splits if name not in known]:
        reading.understood.append(f"listed in {part / 'ImageSets'} without an annotation, left out: {some(unseen)}")


def _content(root: Element, file: Path) -> tuple[str, Mapping[str, int]]:
    """The image's name and its labels, from an XML."""
    values: dict[str, int] = {}
    for number, element in enumerate(root.findall("object"), start=1):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise DatasetError(f"{file}: object {number} has no name", "Name it")
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        values[name] = max(values.get(name, UNKNOWN), UNKNOWN if difficult else 1)
    return (root.findtext("filename") or "").strip(), values


def _listed_splits(part: Path, reading: Reading) -> dict[str, str]:
    """The split of each listed image; empty if there are no lists.

    Raises:
        DatasetError: an image is in the lists of two splits.
    """
    folder = part / "ImageSets"
    folder = folder / "Main" if (folder / "Main").is_dir() else folder
    splits: dict[str, str] = {}
    for name in ("train", "val", "test"):
        for line in _lines(folder / f"{name}.txt", reading):
            if splits.setdefault(line, name) != name:
                raise DatasetError(
                    f"{folder}: {line!r} is in the lists of {splits[line]} and of {name}", "Remove it from one of them."
                )
    for line in _lines(folder / "trainval.txt", reading):
        if splits.setdefault(line, "train") == "test":
            raise DatasetError(f"{folder}: {line!r} is in trainval and in test", "Remove it from one of them.")
    return splits


def _lines(file: Path, reading: Reading) -> list[str]:
    if not file.is_file():
        return []
    text, _ = read_text(file, reading.config, reading.source)
    return [line.split()[0] for line in text.splitlines() if line.strip()]
