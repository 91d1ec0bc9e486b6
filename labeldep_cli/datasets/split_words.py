"""Words that people write for train, val and test, and the names of columns that they write them in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labeldep_cli.datasets.doubts import Answer, Doubt
from labeldep_cli.datasets.split import SPLITS

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "tr", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Splits by the words for them, in lower case."""

SPLIT_COLUMNS = frozenset({"split", "subset", "partition", "phase", "set", "data_split", "dataset_split"})
"""Names of columns and keys, in lower case, that have the split of a row."""


def split_of(word: object) -> str | None:
    """The split that a word means, in upper or lower case; None if it means none."""
    return SPLIT_WORDS.get(word.strip().lower()) if isinstance(word, str) else None


def read_splits(source: Path, column: str, cells: Sequence[str], lines: Sequence[int]) -> list[str]:
    """The splits of all rows.

    Args:
        source: the file, for messages.
        column: the name of the column, for messages.
        cells: the N cells of the column.
        lines: the N lines that they are in, for messages.

    Raises:
        DatasetError: some cells are empty, 0 and 1, or no word for a split; the remedy is a command.
    """
    known = {cell: split_of(cell) for cell in set(cells)}
    if all(known.values()):
        return [split for cell in cells if (split := known[cell])]
    doubt = _split_doubt(column, set(known))
    if doubt is not None:
        raise doubt.error(source)
    line, cell = next((line, cell) for line, cell in zip(lines, cells, strict=True) if known[cell] is None)
    raise unknown_split_doubt(f"line {line}", cell, column).error(source)


def unknown_split_doubt(place: str, word: object, column: str) -> Doubt:
    """The error for a word that means no split; `place` is that of the row, in the file."""
    ignoring = Answer("To draw all splits anew", {"ignore_columns": (column,)})
    return Doubt(
        f"{place}: unknown split {word!r}", (ignoring,), f"A split is {', '.join(SPLITS[:-1])} or {SPLITS[-1]}."
    )


def _split_doubt(column: str, cells: set[str]) -> Doubt | None:
    plain = {cell.strip() for cell in cells}
    ignoring = Answer("To draw all splits anew", {"ignore_columns": (column,)})
    if plain <= {"0", "1", "0.0", "1.0"}:
        return zero_one_split(column)
    if "" in plain and any(split_of(cell) for cell in plain):
        return Doubt(
            f"the column {column!r} is empty in some rows: which split are they in?",
            (Answer("To leave these rows out", {"drop_broken": True}), ignoring),
            f"Or write their split: {', '.join(SPLITS)}.",
        )
    return None


def zero_one_split(column: str, others: tuple[str, ...] = ()) -> Doubt:
    """Ask about a column of 0 and 1 that is called like a split.

    Args:
        column: its name.
        others: the columns that are labels beyond doubt; empty if this is not asked among labels.
    """
    answers = [
        Answer("If it says which rows are held out", {"split_column": column}),
        Answer("If it is neither", {"ignore_columns": (column,)}),
    ]
    if others:
        answers.insert(1, Answer("If it is a label", {"label_columns": (*others, column)}))
    return Doubt(
        f"the column {column!r} has 0 and 1: does it tell the split of a row, or is it a label?", tuple(answers)
    )
