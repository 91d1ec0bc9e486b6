"""Values of labels: what -1 and an empty cell mean, and labels of which nothing is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, some
from labeldep_cli.datasets.label_space import UNKNOWN

PRESENT, ABSENT, UNSURE, MINUS_ONE, BLANK = 1, 0, 255, 254, 253
"""Codes of values as they are written: 1, 0, `?`, -1, and an empty cell."""

VALUE_CODES = {
    **dict.fromkeys(("1", "1.0", "True", "TRUE", "true"), PRESENT),
    **dict.fromkeys(("0", "0.0", "False", "FALSE", "false"), ABSENT),
    **dict.fromkeys(("-1", "-1.0"), MINUS_ONE),
    **dict.fromkeys(("", "nan", "NaN", "NA", "<NA>", "N/A", "null", "NULL", "\\N"), BLANK),
    "?": UNSURE,
}
"""Codes by spelling. pandas writes 1.0 if a column has empty cells."""

_BY_NUMBER = {1.0: PRESENT, 0.0: ABSENT, -1.0: MINUS_ONE}

_WRITE = "Write 1 where a label is present, and 0 where it is absent."

_MEANINGS = ("absent", "unknown")


def code_of(cell: str) -> int | None:
    """The code of a cell in any spelling, such as " 1.00"; None if it is no value of a label."""
    text = cell.strip()
    if text in VALUE_CODES:
        return VALUE_CODES[text]
    try:
        return _BY_NUMBER.get(float(text))
    except ValueError:
        return None


@dataclass(frozen=True)
class ValueCounts:
    """The number of cells of each of L labels, by value.

    Attributes:
        present, absent, minus_one, blank: int [L].
    """

    present: NDArray[np.int64]
    absent: NDArray[np.int64]
    minus_one: NDArray[np.int64]
    blank: NDArray[np.int64]

    @staticmethod
    def of(codes: NDArray[np.uint8]) -> ValueCounts:
        """Count the codes [N, L] of a table."""
        return ValueCounts(*((codes == code).sum(axis=0) for code in (PRESENT, ABSENT, MINUS_ONE, BLANK)))


def values_doubt(names: Sequence[str], counts: ValueCounts) -> Doubt | None:
    """Ask what -1 and empty cells mean.

    They are unknown labels if the cells of a label have a 1 and a 0 besides. A label with -1 or empty cells that is
    never 0, or never 1, leaves the question open: people write them for absent labels, too.

    Args:
        names: the L labels.
        counts: the values of each.

    Returns:
        The question, with an answer for each combination of meanings; None if there is none.
    """
    one_sided = (counts.present == 0) | (counts.absent == 0)
    kinds = {"-1": ("minus_one", counts.minus_one), "an empty cell": ("blank", counts.blank)}
    asked = {spoken: field for spoken, (field, n) in kinds.items() if (n[one_sided] > 0).any()}
    if not asked:
        return None
    if not (counts.present + counts.absent).any():
        return Doubt("no cell is 1 or 0, so that nothing is known", otherwise=_WRITE)
    doubtful = one_sided & ((counts.minus_one > 0) | (counts.blank > 0))
    labels = tuple(name for name, is_doubtful in zip(names, doubtful, strict=True) if is_doubtful)
    never = [digit for digit, n in (("1", counts.present), ("0", counts.absent)) if not n[doubtful].any()]
    lacks = f"never {' or '.join(never)}" if never else "never 1, or never 0"
    whose = "cells are" if doubtful.all() else f"{some(labels)} {'is' if len(labels) == 1 else 'are'}"
    verb = "does" if len(asked) == 1 else "do"
    doubt = f"{verb} {' and '.join(asked)} mean that a label is absent, or that it is unknown?"
    answers = _answers(asked)
    if len(never) == 2:
        answers.insert(0, Answer(f"To leave {some(labels)} out", {"ignore_columns": labels}))
    return Doubt(f"{whose} {' or '.join(_written(counts, doubtful))}, {lacks}: {doubt}", tuple(answers))


def _written(counts: ValueCounts, labels: NDArray[np.bool_]) -> list[str]:
    """The values that some labels have."""
    kinds = {"1": counts.present, "0": counts.absent, "-1": counts.minus_one, "empty": counts.blank}
    return [spoken for spoken, n in kinds.items() if n[labels].any()]


def _answers(asked: dict[str, str]) -> list[Answer]:
    fields = list(asked.values())
    spoken, verb = " and ".join(asked), "means" if len(asked) == 1 else "mean"
    answers = [Answer(f"If {spoken} {verb} {meaning}", dict.fromkeys(fields, meaning)) for meaning in _MEANINGS]
    if len(fields) > 1:
        for first, second in (_MEANINGS, _MEANINGS[::-1]):
            answers.append(
                Answer(f"If -1 means {first} and an empty cell {second}", {"minus_one": first, "blank": second})
            )
    return answers


def known_labels(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Labels in {0, 1, -1} of codes [N, L], where -1 and empty cells are unknown."""
    return np.maximum(codes.view(np.int8), np.int8(UNKNOWN))  # as int8, the other codes are -1, -2 and -3


def unlearnable_doubt(names: Sequence[str], labels: NDArray[np.int8]) -> Doubt | None:
    """Find labels of which nothing is known, and data without any present label.

    Args:
        names: the L labels.
        labels: int8 [N, L] in {0, 1, -1}.
    """
    unknown = (labels == UNKNOWN).all(axis=0)
    if unknown.all():
        return Doubt("every label is unknown in every row", otherwise=_WRITE)
    if unknown.any():
        left_out = tuple(name for name, is_unknown in zip(names, unknown, strict=True) if is_unknown)
        verb = "is" if len(left_out) == 1 else "are"
        return Doubt(
            f"{some(left_out)} {verb} unknown in every row, which no training can learn from",
            (Answer("To leave out what is unknown", {"ignore_columns": left_out}),),
            "Or write 1 or 0 where a label is known.",
        )
    if not (labels == 1).any():
        return Doubt("no label is present in any row", otherwise="Write 1 where a label is present.")
    return None
