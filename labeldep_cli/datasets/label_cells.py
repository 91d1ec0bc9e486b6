"""Cells that list label names: `sea;sky`, or a list as programs write it."""

from __future__ import annotations

import ast
import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass

SEPARATOR = ";"
"""What stands between names where nothing else is said."""

_BRACKETS = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class LabelCells:
    """The label sets of N cells.

    Attributes:
        label_sets: the names in each cell.
        separated: some cell lists two names, so that it is known how names are separated.
        numbers: the lists of numbers among the cells, each once: ids, positions, or 1 and 0 for each label. Their
            cells have no names.
    """

    label_sets: list[list[str]]
    separated: bool
    numbers: tuple[tuple[float, ...], ...] = ()

    @property
    def multi_hot_width(self) -> int | None:
        """The number of labels if the lists of numbers are 1 and 0 for each label; None if they are something else."""
        widths = {len(numbers) for numbers in self.numbers}
        is_hot = len(widths) == 1 and all(number in (0, 1) for numbers in self.numbers for number in numbers)
        return widths.pop() if is_hot else None


def read_cells(cells: Sequence[str], separator: str = SEPARATOR) -> LabelCells:
    """Read cells that list names.

    A cell is a JSON list, a list, tuple or set as Python writes it, an object `{"choices": [...]}`, or names with a
    separator between them. `{a,b}` and `[a, b]` without quotes around the names are lists if all cells have this form.

    Args:
        cells: the N cells.
        separator: what stands between names; a blank stands for any number of them.
    """
    filled = {cell.strip() for cell in cells} - {""}
    bare = bool(filled) and all(_in_brackets(cell) for cell in filled)
    sets: dict[str, list[str]] = {"": []}
    numbers: dict[tuple[float, ...], None] = {}
    for cell in filled:
        listed = _listed(cell)
        if listed is None:
            sets[cell] = _bare_names(cell) if bare else split_names(cell, separator)
        else:
            sets[cell] = [value.strip() for value in listed if isinstance(value, str) and value.strip()]
            if listed and not isinstance(listed[0], str):
                numbers[tuple(map(float, listed))] = None
    separated = any(len(names) > 1 for names in sets.values())
    return LabelCells([sets[cell.strip()] for cell in cells], separated, tuple(numbers))


def split_names(text: str, separator: str) -> list[str]:
    """The names in a text, without blanks around them; nothing between two separators is no name."""
    parts = text.split() if separator == " " else text.split(separator)
    return [name.strip() for name in parts if name.strip()]


def _in_brackets(cell: str) -> bool:
    return len(cell) > 1 and _BRACKETS.get(cell[0]) == cell[-1] and not set(cell[1:-1]) & set("{}[]")


def _bare_names(cell: str) -> list[str]:
    (names,) = csv.reader([cell[1:-1].replace("\n", " ")], skipinitialspace=True)
    return [name.strip() for name in names if name.strip()]


def _listed(cell: str) -> list[str] | list[float] | None:
    """The values of a list of strings, or of numbers; None for anything else."""
    if cell == "set()":
        return []
    if cell[0] not in "[{(" or cell[-1] not in "]})":
        return None
    value = _parsed(cell)
    if isinstance(value, dict) and list(value) == ["choices"]:
        value = value["choices"]
    if value == {}:
        return []
    if not isinstance(value, list | tuple | set):
        return None
    values = sorted(value) if isinstance(value, set) and all(isinstance(v, str) for v in value) else list(value)
    for kind in (str, int | float):
        if all(isinstance(item, kind) for item in values):
            return values
    return None


def _parsed(cell: str) -> object:
    """A cell as JSON, else as a literal of Python; None if it is neither."""
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
