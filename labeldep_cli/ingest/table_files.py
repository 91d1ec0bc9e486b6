"""The tables of a source, and the folders where their images may be."""

from __future__ import annotations

import re
from pathlib import Path

from labeldep_cli.datasets.split_words import split_of

_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".tab")
_USUAL = ("_classes.csv", "metadata.csv", "labels.csv", "annotations.csv")
"""Names of tables, in lower case, that are preferred in a folder with several."""

_IMAGES = ("images", "image", "imgs", "img", "JPEGImages", "photos", "pictures", "jpg", "png", "data")
"""Names of folders that usually have the images."""


def tables_of(source: Path) -> list[tuple[str | None, Path]]:
    """The tables of a source with the split that each one is, None if its name does not say.

    For a folder: a table in each of its folders train, valid and test; else tables named so (train.csv, valid.csv);
    else its only table.
    """
    if source.is_file():
        return [(None, source)]
    if not source.is_dir():
        return []
    inner = [(split_of(folder.name), _table_in(folder)) for folder in sorted(source.iterdir()) if folder.is_dir()]
    parts = [(split, table) for split, table in inner if split and table]
    if not parts:
        parts = [(split, file) for file in _tables(source) if (split := _split_in(file))]
    if len(parts) > 1 and any(split == "train" for split, _ in parts):
        return list(parts)
    table = _table_in(source)
    return [(None, table)] if table else []


def folders_of_images(file: Path, source: Path) -> list[Path]:
    """The folders that the image names of a table may start from, likelier ones first."""
    folder = file.parent
    usual = [parent / name for parent in (folder, folder.parent) for name in _IMAGES]
    stem = _stem(file)
    own = [folder / name for name in (stem, f"{stem}-jpg", f"{stem}_images")]
    return [folder, *(place for place in [*usual, *own, source] if place.is_dir() and place != folder)]


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.name.lower().endswith(_SUFFIXES) and file.is_file())


def _table_in(folder: Path) -> Path | None:
    """The table of a folder: one of a usual name, or its only one."""
    tables = _tables(folder)
    usual = [file for name in _USUAL for file in tables if file.name.lower() == name]
    return usual[0] if usual else tables[0] if len(tables) == 1 else None


def _split_in(file: Path) -> str | None:
    """The split that a word of a file's name means: train.csv, val_labels.csv."""
    words = re.split(r"[^a-z]+", _stem(file).lower())
    found = {split for word in words if (split := split_of(word))}
    return found.pop() if len(found) == 1 else None


def _stem(file: Path) -> str:
    return file.name.split(".")[0]
