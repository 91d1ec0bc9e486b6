"""CVAT for images 1.1: one XML with the tags and shapes of all images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.json_text import head_of
from labeldep_cli.ingest.words import some
from labeldep_cli.ingest.xml_text import elements_of

if TYPE_CHECKING:
    pass

_FILE = "annotations.xml"


def recognises(source: Path) -> bool:
    """Whether an XML file, or `annotations.xml` of a folder, is an export of CVAT."""
    file = source / _FILE if source.is_dir() else source
    return file.suffix.lower() == ".xml" and file.is_file() and "<annotations>" in head_of(file)


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read an export. A label is present if an image has a tag or a shape of it.

    Raises:
        DatasetError: the file is not XML, has tracks of a video, or images that lack a name.
    """
    file = source / _FILE if source.is_dir() else source
    reading = Reading(source, config)
    finder = reading.finder([file.parent / "images", file.parent])
    subsets: dict[str, str] = {}
    bare = []
    for element in elements_of(file, frozenset({"image", "label", "track"})):
        if element.tag == "track":
            raise DatasetError(f"{file} has the tracks of a video", "Export the task as CVAT for images 1.1.")
        if element.tag == "label":
            reading.declared += [name for name in [(element.findtext("name") or "").strip()] if name]
            continue
        name = element.get("name") or ""
        if not name:
            reading.drop(f"{file}: the image with the id {element.get('id')!r} has no name")
            continue
        values = {label: 1 for child in element if (label := (child.get("label") or "").strip())}
        bare += [] if values else [name]
        subset = element.get("subset") or ""
        path = finder.find(f"{subset}/{name}" if subset else name, name)
        subsets[path] = subset
        reading.entries.append(Entry(path, values, split=split_of(subset)))
    if bare:
        reading.understood.append(f"images without a tag or shape, which have no label: {some(bare)}")
    _tell_subsets(sorted(set(subsets.values()) - {""}), reading)
    return reading.finish(file.parent)


def _tell_subsets(subsets: list[str], reading: Reading) -> None:
    """Tell of subsets that are no splits.

    Raises:
        DatasetError: some are splits, and others are not.
    """
    others = [subset for subset in subsets if split_of(subset) is None]
    if others and len(others) < len(subsets):
        raise DatasetError(
            f"{reading.source}: the subsets {', '.join(others)} are no splits, but others are",
            "Call the subsets train, val and test.",
        )
    if others:
        reading.understood.append(f"subsets that are no splits, not kept: {some(others)}")
