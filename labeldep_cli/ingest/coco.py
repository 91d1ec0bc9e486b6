"""COCO-format JSON files of one's own: one file, or one for each split."""

from __future__ import annotations

import re
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.coco_file import CocoFile
from labeldep_cli.ingest.entries import Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.json_text import first_key, first_values, head_of
from labeldep_cli.ingest.words import some

_KEYS = ("images", "annotations", "categories", "info", "licenses", "license", "type")
_OF_OTHER_TASKS = ("captions_", "image_info_", "panoptic_", "person_keypoints_", "stuff_")
"""Beginnings of the names of COCO's own files for other tasks, which lie beside instances_*.json."""


def recognises(source: Path) -> bool:
    """Whether a JSON file has this form, or a folder, its `annotations` or folders that are splits have such files."""
    return bool(_files(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the files. The name of a file, or of its folder, says its split if there are several files.

    Raises:
        DatasetError: a file has another form, annotates no image or names something that it does not list.
    """
    reading = Reading(source, config)
    files = _files(source) or [source]
    if source.is_dir():
        instances = [file for file in files if not file.name.startswith(_OF_OTHER_TASKS)]
        if others := [file.name for file in files if file not in instances and instances]:
            reading.understood.append(f"files of other tasks, not read: {some(others)}")
            files = instances
    splits = {file: _split_of_file(file, source) for file in files} if len(files) > 1 else dict.fromkeys(files)
    if len(files) > 1:
        _tell_splits(splits, reading)
    for file, split in splits.items():
        CocoFile(file, reading).add(_finder(file, split, reading), split)
    return reading.finish(source if source.is_dir() else source.parent)


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if source.suffix.lower() == ".json" and _is_form(source) else []
    below = (
        path for path in source.glob("*/*.json") if path.parent.name == "annotations" or split_of(path.parent.name)
    )
    return [path for path in sorted((*source.glob("*.json"), *below)) if _is_form(path)]


def _is_form(file: Path) -> bool:
    head = head_of(file)
    if head.lstrip().startswith("["):  # a list of results, which `read` refuses with the reason
        values = first_values(head)
        return bool(values) and all(isinstance(v, dict) and {"image_id", "category_id"} <= v.keys() for v in values)
    return first_key(head) in _KEYS or re.search(r'"images"\s*:\s*\[', head) is not None


def _split_of_file(file: Path, source: Path) -> str | None:
    """The split in the name of a file, such as instances_val2017.json, or of its folder."""
    words = re.split(r"[^A-Za-z]+", file.stem)
    found = next(filter(None, map(split_of, words)), None)
    return found or (split_of(file.parent.name) if file.parent != source else None)


def _tell_splits(splits: dict[Path, str | None], reading: Reading) -> None:
    unnamed = [file.name for file, split in splits.items() if split is None]
    if unnamed and len(unnamed) < len(splits):
        raise DatasetError(
            f"{reading.source}: the names of {', '.join(unnamed)} say no split, those of other files do",
            "Name each file after its split, such as train.json, val.json and test.json, or move it away.",
        )
    told = [f"{file.name}: {split or 'no split'}" for file, split in splits.items()]
    reading.understood.append(f"files and their splits: {', '.join(told)}")


def _finder(file: Path, split: str | None, reading: Reading) -> ImageFinder:
    """Looks where images of such files usually are: beside it, in images/, ../images, ../train2017, ..."""
    base = file.parent.parent if file.parent.name == "annotations" else file.parent
    named = re.findall(r"(?:train|val|test)\w*", file.stem) + ([split] if split else [])
    nearest = [folder / name for name in named for folder in (base, base / "images")]
    return reading.finder([*nearest, base / "images", base, file.parent], searched=base)
