"""Cells that list label names: `sea;sky`, or a list as programs write it."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

SEPARATOR = ";"
"""What stands between names where nothing else is said."""

_ZEROS_AND_ONES = re.compile(r"[01](?:[\s,;|]+[01])+")
"""1 and 0 for each label, in one cell."""

_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_NUMBER = r"[+-]?\d+\.?\d*"
_OF_NUMPY = re.compile(rf"\[\s*(?:(?:{_TEXT})(?:\s+(?:{_TEXT}))+|{_NUMBER}(?:\s+{_NUMBER})+|{_NUMBER}\.)\s*\]")
"""An array as NumPy writes it, without commas, such as `['sea' 'sky']`. Python would join such texts to one."""

_BRACKETS = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class LabelCells:
    """The label sets of N cells.

    Attributes:
        label_sets: the names in each cell.
        separated: some cell lists two names, so that it is known how names are separated.
        numbers: the lists of numbers among the cells, each once: ids, positions, or 1 and 0 for each label. Their
            cells have no names.
        odd: the first cell that is written as JSON or Python and is no list of names or numbers; empty if there is
            none.
    """

    label_sets: list[list[str]]
    separated: bool
    numbers: tuple[tuple[float, ...], ...] = ()
    odd: str = ""

    @property
    def multi_hot_width(self) -> int | None:
        """The number of labels if the lists of numbers are 1 and 0 for each label; None if they are something else."""
        widths = {len(numbers) for numbers in self.numbers}
        is_hot = len(widths) == 1 and all(number in (0, 1) for numbers in self.numbers for number in numbers)
        return widths.pop() if is_hot else None


def read_cells(cells: Sequence[str], separator: str = SEPARATOR) -> LabelCells:
    """Read cells that list names.

    A cell is a JSON list, a list, tuple or set as Python writes it, an array as NumPy writes it, an object
    `{"choices": [...]}`, or names with a separator between them. `{a,b}` and `[a, b]` without quotes around the names
    are lists if all cells have this form.

    Args:
        cells: the N cells.
        separator: what stands between names; a blank stands for any number of them.
    """
    filled = {cell.strip(): None for cell in cells if cell.strip()}  # in order, each once
    bare = bool(filled) and all(_in_brackets(cell) for cell in filled)
    hot = len(filled) > 1 and all(_ZEROS_AND_ONES.fullmatch(cell) for cell in filled)
    sets: dict[str, list[str]] = {"": []}
    numbers: dict[tuple[float, ...], None] = {}
    odd = ""
    for cell in filled:
        value = [int(digit) for digit in re.findall("[01]", cell)] if hot else _parsed(cell)
        listed = _listed(value)
        sets[cell] = [item.strip() for item in listed or () if isinstance(item, str) and item.strip()]
        if listed is None and value is not None:
            odd = odd or cell
        elif listed is None:
            sets[cell] = _bare_names(cell) if bare else split_names(cell, separator)
        elif listed and not isinstance(listed[0], str):
            numbers[tuple(map(float, listed))] = None
    separated = any(len(names) > 1 for names in sets.values())
    return LabelCells([sets[cell.strip()] for cell in cells], separated, tuple(numbers), odd)


def split_names(text: str, separator: str) -> list[str]:
    """The names in a text, without blanks around them; nothing between two separators is no name."""
    parts = text.split() if separator == " " else text.split(separator)
    return [name.strip() for name in parts if name.strip()]


def _in_brackets(cell: str) -> bool:
    return len(cell) > 1 and _BRACKETS.get(cell[0]) == cell[-1] and not set(cell[1:-1]) & set("{}[]")


def _bare_names(cell: str) -> list[str]:
    (names,) = csv.reader([cell[1:-1].replace("\n", " ").replace("\r", " ")], skipinitialspace=True)
    return [name.strip() for name in names if name.strip()]


def _listed(value: object) -> list[str] | list[float] | None:
    """The values of a list of strings, or of numbers; None for anything else."""
    if isinstance(value, dict) and list(value) == ["choices"]:
        value = value["choices"]
    if value == {}:
        return []
    if not isinstance(value, list | tuple | set):
        return None
    values = list(value)
    if all(isinstance(item, str) for item in values):
        return sorted(values) if isinstance(value, set) else values
    return values if all(isinstance(item, int | float) for item in values) else None


def _parsed(cell: str) -> object:
    """The value of a cell that is written as a list, a set or an object of JSON or Python; None for any other cell."""
    if cell == "set()":
        return []
    if cell[0] not in "[{(" or cell[-1] not in "]})":
        return None
    if _OF_NUMPY.fullmatch(cell):
        items = re.findall(rf"{_TEXT}|{_NUMBER}", cell)
        return [ast.literal_eval(item) if item[0] in "'\"" else float(item) for item in items]
    try:
        return json.loads(cell)
    except (ValueError, RecursionError):
        pass
    try:
        value = ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, list | tuple | set | dict) else None
