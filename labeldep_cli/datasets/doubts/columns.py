"""Questions about the columns of a CSV: what is a label, what is a split, and what is something else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from labeldep_cli.datasets.csv_columns import Columns
from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt, combined, some
from labeldep_cli.datasets.doubts.names import names_doubt
from labeldep_cli.datasets.doubts.values import ABSENT, BLANK, MINUS_ONE, PRESENT, ValueCounts, code_of, values_doubt
from labeldep_cli.datasets.label_cells import LabelCells
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS, split_of

_NO_LABEL = re.compile(
    r"is_.*|sex|gender|age|years?|id|.*_id|index|idx|unnamed.*|width|height|frontal.*|lateral.*|ap/pa|fold.*|group"
    r"|verified|reviewed|checked|annotated|labell?ed|flagged|quality|kfold.*|train|training|val|valid|validation|dev|test|usage|difficult|truncated|occluded|iscrowd|weight|count",
    re.IGNORECASE,
)
"""Names of columns that tell something else about an image, although they may hold 0 and 1."""

_HOLDS_OUT = re.compile(r"(is_?)?(train|training|val|valid|validation|dev|test|holdout)", re.IGNORECASE)

_MOST_NAMED = 60
"""Columns that a command line names; a longer list is left to the user."""

_ZEROS = frozenset({"no", "n", "f", "false", "nein", "non", "absent", "negative", "neg"})
"""Words for an absent label."""

_UNMARKED = frozenset({"", "-", "--", "."})
"""What people leave in a cell that they do not mark."""

KEPT_VALUES = 8
"""Different values of an ignored column that are looked at."""


def cells_doubt(cells: LabelCells, source_names: Mapping[str, int]) -> Doubt | None:
    """Ask about the cells of a column that lists labels.

    Args:
        cells: as they were read.
        source_names: the number of rows with each name.
    """
    if cells.odd:
        return Doubt(f"the list of labels {cells.odd[:60]!r} is no list of names", (TO_IMPORT,))
    if cells.numbers:
        return numbers_doubt(cells.numbers, cells.multi_hot_width)
    return names_doubt(source_names, cells.separated)


def numbers_doubt(numbers: Sequence[Sequence[float]], width: int | None) -> Doubt:
    """Ask for the names of labels that are written as numbers.

    Args:
        numbers: different lists of them.
        width: the number of labels, if the lists are 1 and 0 for each label.
    """
    n = width or int(max((max(listed) for listed in numbers if listed), default=0)) + 1
    names = tuple(f"NAME{k + 1}" for k in range(n)) if n <= _MOST_NAMED else ("NAME1", "NAME2")
    example = f"{[int(number) if number == int(number) else number for number in numbers[0]]}"
    return Doubt(
        f"labels are numbers, as in {example[:60]}: what are their names?",
        (Answer("With their names in order, in place of NAME1, NAME2", {"label_names": names}),),
    )


def tells_something_else(name: str) -> bool:
    """Whether the name of a column is that of something else than a label, such as `sex` or `is_test`."""
    return _NO_LABEL.fullmatch(name) is not None


def label_columns_doubt(columns: Columns, group_cells: Iterable[str]) -> Doubt | None:
    """Ask about columns of 0 and 1 whose names are those of something else.

    Args:
        columns: of a table with a column for each label, whose cells are all values of labels.
        group_cells: the different cells of the column `group`; empty if there is none.
    """
    odd = tuple(name for name in columns.names if tells_something_else(name))
    if columns.group is not None and set(group_cells) <= {"0", "1"}:
        odd = (*odd, columns.name(columns.group))
    if not odd:
        return None
    plural = "columns" if len(odd) > 1 else "column"
    answers = [
        Answer(f"If the {plural} {some(odd)} {'hold' if len(odd) > 1 else 'holds'} no labels", {"ignore_columns": odd})
    ]
    held_out = [name for name in odd if _HOLDS_OUT.fullmatch(name)]
    if len(held_out) == 1:
        others = tuple(name for name in odd if name != held_out[0])
        said = f"If 1 in {held_out[0]!r} tells the split of a row"
        answers.insert(0, Answer(said, {"split_column": held_out[0], "ignore_columns": others}))
    labels = tuple(dict.fromkeys((*columns.names, *odd)))
    otherwise = "If they are labels, give them other names."
    if len(labels) <= _MOST_NAMED:
        answers.append(Answer("If they are labels", {"label_columns": labels}))
        otherwise = ""
    verb = "are they labels" if len(odd) > 1 else "is it a label"
    return Doubt(f"the {plural} {some(odd)} of 0 and 1: {verb}?", tuple(answers), otherwise)


def ignored_columns_doubt(columns: Columns, seen: Mapping[int, set[str]]) -> Doubt | None:
    """Ask about columns beside a list of labels that look like labels or splits themselves.

    Args:
        columns: of a table with a list of labels.
        seen: up to KEPT_VALUES different cells of each ignored column.
    """
    assert columns.listing is not None
    values = {columns.name(k): {cell.strip() for cell in cells} - {""} for k, cells in seen.items()}
    splits = [name for name, cells in values.items() if cells and all(map(split_of, cells))]
    splits += [name for name in values if name.lower() in SPLIT_COLUMNS and name not in splits]
    if splits:
        return Doubt(
            f"the column {splits[0]!r} looks like the split of a row",
            (
                Answer("If it is", {"split_column": splits[0]}),
                Answer("If it is not", {"ignore_columns": (splits[0],)}),
            ),
        )
    hot = tuple(name for name, cells in values.items() if cells and cells <= {"0", "1", "0.0", "1.0"})
    if not hot:
        return None
    listing = columns.name(columns.listing)
    several = len(hot) > 1
    return Doubt(
        f"beside {listing!r}, the {'columns' if several else 'column'} {some(hot)} may be labels: they hold 0 and 1",
        (
            Answer(f"If only {listing!r} has labels", {"labels_column": listing, "ignore_columns": hot}),
            Answer("If each of these columns is a label", {"label_columns": hot, "ignore_columns": (listing,)}),
        ),
    )


def foreign_cells_doubt(columns: Columns, rows: Iterable[Sequence[str]], place: str, cell: str) -> Doubt:
    """Ask about a table with a column for each label, in which a cell is no value of a label.

    Args:
        columns: of the table.
        rows: the fields of all its rows.
        place: the line and column of the first such cell.
        cell: its content.
    """
    values: dict[str, Counter[str]] = {name: Counter() for name in columns.names}
    for row in rows:
        for name, k in zip(columns.names, columns.labels, strict=True):
            values[name][row[k].strip() if k < len(row) else ""] += 1
    foreign = tuple(name for name, cells in values.items() if _is_foreign(name, cells))
    sound = {name: cells for name, cells in values.items() if all(map(_is_value, cells)) and name not in foreign}
    what = f"{cell!r} is not a label value"
    otherwise = "A label's column holds 1 (present), 0 (absent) or ? (unknown); a column of names is called `labels`."
    if foreign and sound:
        answer = Answer(
            f"If {some(foreign)} {'are' if len(foreign) > 1 else 'is'} no label", {"ignore_columns": foreign}
        )
        asked = combined((Doubt(what, (answer,), otherwise, place), values_doubt(list(sound), _counts(sound.values()))))
        assert asked is not None
        return asked
    if len(foreign) == 1 and len(columns.labels) == 1:
        answer = Answer(f"If {foreign[0]!r} lists names of labels", {"labels_column": foreign[0]})
        return Doubt(what, (answer,), otherwise, place)
    written = {c.lower() for cells in values.values() for c in cells}
    if written & _UNMARKED and not any(code_of(c) == ABSENT or c in _ZEROS for c in written):
        meanings = ("absent", "unknown")
        return Doubt(
            what, tuple(Answer(f"If what is not marked is {m}", {"blank": m}) for m in meanings), otherwise, place
        )
    return Doubt(what, (TO_IMPORT,), otherwise, place)


def _is_foreign(name: str, cells: Iterable[str]) -> bool:
    """Whether a column is no label's: no cell is a value, or some are not and its name is that of something else."""
    are_values = [_is_value(cell) for cell in cells if cell]
    return not any(are_values) or (not all(are_values) and tells_something_else(name))


def _counts(columns: Iterable[Counter[str]]) -> ValueCounts:
    """Count the values of columns whose cells are all values."""
    cells = list(columns)
    n = [
        [sum(k for c, k in v.items() if code_of(c) == code) for v in cells]
        for code in (PRESENT, ABSENT, MINUS_ONE, BLANK)
    ]
    return ValueCounts(*(np.array(counts) for counts in n))


def _is_value(cell: str) -> bool:
    return code_of(cell) is not None
