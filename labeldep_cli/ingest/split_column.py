"""Columns and folders that say which split an image is in."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.split_words import split_of
from labeldep_cli.ingest.again import question
from labeldep_cli.ingest.entries import Reading
from labeldep_cli.ingest.sheet import Sheet, letters

_NAMES = {"split", "subset", "partition", "phase", "splits", "datasplit", "traintest", "trainvaltest"}
_SOMETIMES = {"set", "usage", "fold", "dataset"}
"""Names of columns that are splits if their cells say so."""

_YES, _NO = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}

_FLAGS = {
    **dict.fromkeys(("istest", "test", "testset"), ("test", "train")),
    **dict.fromkeys(("isvalid", "isval", "valid", "val", "validation"), ("val", "train")),
    **dict.fromkeys(("istrain", "train", "training"), ("train", "test")),
}
"""By the name of a column, the splits that yes and no mean in it."""

OF_NUMBERS = {"0": "train", "1": "val", "2": "test"}
"""The splits that CelebA's numbers mean."""


def is_split_column(name: str, cells: Collection[str], reading: Reading) -> bool:
    """Whether a column that no flag names says the split of each image.

    Args:
        name: of the column.
        cells: its different cells.
        reading: its flags may say that the column is something else.

    Raises:
        DatasetError: its name says so, but its cells do not.
    """
    word = letters(name)
    if word.startswith("is") and word in _FLAGS and _by_flag(word, cells):
        return True
    if word not in _NAMES | _SOMETIMES:
        return False
    understood = sum(split_of(cell) is not None for cell in cells)
    if understood == len(cells) or (understood and reading.config.drop_broken):
        return True
    config = reading.config
    if word in _SOMETIMES or name in config.label_columns or name == config.labels_column:
        return False
    odd = next(cell for cell in sorted(cells) if not split_of(cell))
    doubt = Doubt(
        f"the column {name!r} has {odd!r}, which is neither train, val nor test",
        (
            Answer("To leave the column out, so that splits are drawn", {"ignore_columns": (name,)}),
            *([Answer("To leave out such rows", {"drop_broken": True})] if understood else []),
        ),
        "Or correct the column; --label-columns names it if it is a label.",
    )
    raise question(doubt, reading.source, config)


def row_splits(sheet: Sheet, k: int, reading: Reading) -> list[str | None]:
    """The split of each row by a column; None for a broken row. In a column of 0 and 1, 1 is held out for the test.

    Raises:
        DatasetError: a cell is no split, and broken rows are not to be left out.
    """
    cells, name = sheet.column(k), sheet.header[k]
    meaning = splits_meant(name, set(cells))
    for row, cell in enumerate(cells):
        if meaning[cell] is None:
            reading.drop(
                f"{sheet.file}, line {sheet.lines[row]}: {cell!r} in column {name!r} is no split",
                "A split is train, val or test",
            )
    if said := sorted(f"{cell} is {split}" for cell, split in meaning.items() if split and cell.lower() != split):
        reading.understood.append(f"splits by the column {name!r}: {', '.join(said)}")
    return [meaning[cell] for cell in cells]


def splits_meant(name: str, cells: Collection[str]) -> dict[str, str | None]:
    """The split that each of the different cells of a column means; None if it means none."""
    meaning = _by_flag(letters(name), cells) or {cell: split_of(cell) for cell in cells}
    if not any(meaning.values()):
        meaning = _by_flag("istest", cells) or meaning
    return dict(OF_NUMBERS) if set(cells) == OF_NUMBERS.keys() else meaning


def splits_of_folders(paths: Sequence[str]) -> list[str] | None:
    """The splits of images by folders such as train and valid in their paths; None unless each path has one.

    Args:
        paths: as the source writes them.
    """
    splits = [next(filter(None, map(split_of, re.split(r"[/\\]", path)[:-1])), None) for path in paths]
    found = set(splits)
    return [str(split) for split in splits] if None not in found and "train" in found and len(found) > 1 else None


def _by_flag(word: str, cells: Collection[str]) -> dict[str, str | None] | None:
    """The splits that the cells of a column such as is_test mean; None if it is no such column."""
    if word not in _FLAGS or not {cell.lower() for cell in cells} <= _YES | _NO:
        return None
    yes, no = _FLAGS[word]
    return {cell: yes if cell.lower() in _YES else no for cell in cells}
