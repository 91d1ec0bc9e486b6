"""Cells that list the labels of an image, by name or by number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.label_cells import SEPARATOR, read_cells
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import question
from labeldep_cli.ingest.entries import Reading

_SPELLED = {"tab": "\t", "\\t": "\t", "blank": " "}
_OPENING = ("[", "{", "(")
"""Where a cell begins so, it is a list of JSON or Python, in which lines mean nothing."""


def listed_labels(
    cells: Sequence[str],
    reading: Reading,
    how: ImportConfig,
    names: Mapping[str, str] | None = None,
    usual: str = SEPARATOR,
) -> list[dict[str, int]]:
    """The labels of cells.

    Args:
        cells: N cells.
        reading: takes the separator and sentences.
        how: the user's flags, with what the form defines.
        names: the names of label numbers, as the form's own files tell them.
        usual: what separates the labels where no flag says it.

    Returns:
        N mappings from the present labels to 1.

    Raises:
        DatasetError: the cells are lists of numbers whose meaning is open.
    """
    separator = _SPELLED.get(how.label_separator or "", how.label_separator) or usual
    reading.separator = separator
    if broken := [cell for cell in cells if "\n" in cell and cell[:1] not in _OPENING]:
        reading.understood.append(f"each line of a cell is a label: {len(broken)} cells have several lines")
        cells = [separator.join(cell.splitlines()) if cell[:1] not in _OPENING else cell for cell in cells]
    read = read_cells(cells, separator)
    if width := read.multi_hot_width:
        return _multi_hot(cells, width, reading, how)
    sets = _of_numbers(cells) if read.numbers else read.label_sets
    if how.label_names and all(re.fullmatch(r"\d+", name) for labels in sets for name in labels):
        names = {str(number): name for number, name in enumerate(how.label_names)}
    if names:
        sets = [[_name_of(label, names, reading) for label in labels] for labels in sets]
        reading.declared += names.values()
    nothing = {word.casefold() for word in how.nothing}
    sets = [[name for name in labels if name.casefold() not in nothing] for labels in sets] if nothing else sets
    return [dict.fromkeys(labels, 1) for labels in sets]


def _of_numbers(cells: Sequence[str]) -> list[list[str]]:
    """The numbers in lists such as [25, 0], as text."""
    return [re.findall(r"\d+", cell) for cell in cells]


def _name_of(label: str, names: Mapping[str, str], reading: Reading) -> str:
    if label not in names:
        raise DatasetError(
            f"{reading.source}: there is no name for the label {label!r}",
            f"There are names for {len(names)} labels; add the missing ones (--label-names).",
        )
    return names[label]


def _multi_hot(cells: Sequence[str], width: int, reading: Reading, how: ImportConfig) -> list[dict[str, int]]:
    """The labels of cells such as [1, 0, 1], in the order of --label-names.

    Raises:
        DatasetError: there are no names, or not as many.
    """
    if not how.label_names:
        numbers = tuple(str(k) for k in range(width))
        answers = (Answer("To call them by their positions", {"label_names": numbers}),)
        asked = Doubt(f"cells such as {cells[0]!r} have 1 or 0 for each of {width} labels, but no names", answers)
        raise question(asked, reading.source, reading.config)
    if len(how.label_names) != width:
        raise DatasetError(
            f"{reading.source}: lists have {width} numbers, but there are {len(how.label_names)} names",
            f"Name {width} labels with --label-names.",
        )
    reading.declared += how.label_names
    digits = [re.findall(r"[01]", re.sub(r"\.0*", "", cell)) for cell in cells]
    return [{name: 1 for name, digit in zip(how.label_names, row, strict=False) if digit == "1"} for row in digits]
