"""Words that people write for train, val and test, and the names of columns that they write them in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.split import SPLITS

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Splits by the words for them, in lower case."""

SPLIT_COLUMNS = ("split", "subset", "partition", "phase", "set", "data_split", "dataset_split")
"""Names of columns and keys, in lower case, that have the split of a row."""


def split_of(word: object) -> str | None:
    """The split that a word means, in upper or lower case; None if it means none."""
    return SPLIT_WORDS.get(word.strip().lower()) if isinstance(word, str) else None


def read_splits(source: Path, column: str, cells: Sequence[Any], place: Callable[[int], str]) -> list[str]:
    """The splits of all rows.

    Args:
        source: the file, for messages.
        column: the name of the column, for messages.
        cells: the N cells of the column; what is no text is no split.
        place: the place of a row within the file, for messages.

    Raises:
        DatasetError: some cells are empty, 0 and 1, or no word for a split, or no row is in train; the remedy is a
            command.
    """
    meant = {cell: split_of(cell) for cell in set(map(str, cells))}
    splits = [meant[str(cell)] for cell in cells]
    doubt = None
    if None in splits:
        first = splits.index(None)
        doubt = _unknown(column, meant, place(first), cells[first])
    elif cells and "train" not in splits:
        doubt = Doubt("no row is in the train split", (_without(column),), "Or mark rows as train.")
    if doubt is not None:
        raise doubt.error(source)
    return [split for split in splits if split is not None]


def _unknown(column: str, meant: dict[str, str | None], place: str, cell: object) -> Doubt:
    """Ask about a column with cells that mean no split, the first of which is `cell`."""
    plain = {word.strip() for word in meant}
    if plain <= {"0", "1"}:
        return zero_one_split(column)
    if "" in plain and any(meant.values()):
        return Doubt(
            f"{column!r} is empty in some rows; which split are they in?",
            (Answer("To leave these rows out", {"drop_broken": True}), _without(column)),
            f"Or write their split: {', '.join(SPLITS)}.",
            place,
        )
    return Doubt(f"unknown split {cell!r}", (_without(column),), "A split is train, val or test.", place)


def zero_one_split(column: str, labels: tuple[str, ...] = ()) -> Doubt:
    """Ask about a column of 0 and 1 that is called like a split.

    Args:
        column: its name.
        labels: the columns that are labels beyond doubt; empty in a table with a list of labels.
    """
    answers = [Answer("If 1 means that a row is in the test split", {"split_column": column})]
    if labels:
        answers.append(Answer("If it is a label", {"label_columns": (*labels, column)}))
    answers.append(Answer("If it is neither", {"ignore_columns": (column,)}))
    what = f"the column {column!r} has 0 and 1: does it tell the split of a row, or is it a label?"
    return Doubt(what, tuple(answers))


def _without(column: str) -> Answer:
    return Answer("To draw all splits anew", {"ignore_columns": (column,)})
