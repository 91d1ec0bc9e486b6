"""Columns of one label each: what their cells say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, some
from labeldep_cli.datasets.doubts.values import (
    ABSENT,
    BLANK,
    MINUS_ONE,
    PRESENT,
    UNSURE,
    ValueCounts,
    values_doubt,
)
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.ingest.again import import_again, question
from labeldep_cli.ingest.entries import Reading
from labeldep_cli.ingest.sheet import Sheet

_TICKS = ("x", "✓", "✔", "*", "+")
_TRUE = ("wahr", "vrai", "verdadero", "verdadeiro", "vero", "waar", "prawda")
_FALSE = ("falsch", "faux", "falso", "onwaar", "fałsz")
"""TRUE and FALSE as spreadsheets write them in German, French, Spanish, Portuguese, Italian, Dutch and Polish."""

_WORDS = {
    **dict.fromkeys(
        (*_TICKS, *_TRUE, "true", "t", "yes", "y", "ja", "oui", "sí", "si", "present", "positive"), PRESENT
    ),
    **dict.fromkeys((*_FALSE, "false", "f", "no", "n", "nein", "non", "absent", "negative"), ABSENT),
    **dict.fromkeys(("?", "unknown", "unsure", "uncertain"), UNSURE),
    **dict.fromkeys(("", "-", "nan", "na", "<na>", "n/a", "null", "none", "\\n"), BLANK),
}
"""Codes of words, in lower case."""

_SOFT = 252
"""Code of a number between 0 and 1 while no threshold is given."""

_FEW = 12
"""Different cells that a column of values has at most."""

_IS_VALUE = 0.8
"""Share of cells that must be values before a column is taken for a label."""


def holds_values(cells: Sequence[str]) -> bool:
    """Whether a column says of each image whether it has a label. Blank cells do not count."""
    counts = Counter(cells)
    filled = {cell: n for cell, n in counts.items() if _code(cell) != BLANK}
    values = sum(n for cell, n in filled.items() if _code(cell) is not None)
    return bool(filled) and values >= _IS_VALUE * sum(filled.values())


def are_counts(cells: Collection[str]) -> bool:
    """Whether the different cells of a column may count something: a few whole numbers from 0 on."""
    return len(cells) <= _FEW and "0" in cells and all(cell.isdecimal() for cell in cells if cell)


def numbers_doubt(sheet: Sheet, columns: Sequence[int]) -> Doubt | None:
    """Ask about several columns with the same few cells, none of which are values of labels: 0 and 100, or 1 and 2.

    Args:
        sheet: the table.
        columns: those that may be labels.

    Returns:
        The question, with an answer where the cells are numbers and 0 is among them; None if there is none.
    """
    cells_of = {k: set(sheet.column(k)) for k in columns}
    few = {k: cells for k, cells in cells_of.items() if 1 < len(cells) <= _FEW}
    alike = [k for k, cells in few.items() if any(cells & other for j, other in few.items() if j != k)]
    if len(alike) < 2:
        return None
    names, cells = tuple(sheet.header[k] for k in alike), sorted(set().union(*(few[k] for k in alike)))
    answers: tuple[Answer, ...] = ()
    if are_counts(cells):
        answers = (Answer("If a label is present from 1 on", {"label_columns": names, "threshold": 1.0}),)
    return Doubt(
        f"the columns {some(names)} have cells such as {some(cells)}: which of them says that a label is present?",
        answers,
        "Write 1 where a label is present, and 0 where it is absent." if not answers else "",
    )


def label_values(
    sheet: Sheet, labels: Sequence[int], names: Sequence[str], reading: Reading, how: ImportConfig, asks: bool = True
) -> list[dict[str, int] | None]:
    """The labels of each row; those that are absent are left out.

    Args:
        sheet: the table.
        labels: its L label columns.
        names: their L names.
        reading: takes sentences and broken rows.
        how: the user's flags, with what the form defines.
        asks: whether -1 and empty cells are questioned where no flag says what they mean; otherwise they are unknown.

    Returns:
        N mappings from names to 1 or -1; None for a broken row.

    Raises:
        DatasetError: a cell is no value; or the meaning of -1, of an empty cell or of values between 0 and 1 is open.
    """
    columns = [sheet.column(k) for k in labels]
    distinct = [Counter(cells) for cells in columns]
    code_of = {cell: _code(cell, how.threshold) for counts in distinct for cell in counts}
    broken = _broken_rows(sheet, columns, names, code_of, reading)
    meaning = _meanings(distinct, names, code_of, reading, how, asks)
    said: list[dict[str, int] | None] = [None if row in broken else {} for row in range(len(sheet.rows))]
    for name, cells in zip(names, columns, strict=True):
        values = [meaning.get(code_of[cell]) for cell in cells]
        for row, value in enumerate(values):
            if value and (row_values := said[row]) is not None:
                row_values[name] = value
    return said


def _code(cell: str, threshold: float | None = None) -> int | None:
    """The code of a cell; None if it is no value of a label."""
    if (word := _WORDS.get(cell.casefold())) is not None:
        return word
    if not re.fullmatch(r"[+-]?\d+([.,]\d*)?(e[+-]?\d+)?", cell, flags=re.IGNORECASE):
        return None
    number = float(cell.replace(",", "."))
    if number in (0, 1, -1):
        return {0: ABSENT, 1: PRESENT, -1: MINUS_ONE}[int(number)]
    if threshold is not None and number > 0:
        return PRESENT if number >= threshold else ABSENT
    return _SOFT if 0 < number < 1 else None


def _broken_rows(
    sheet: Sheet,
    columns: Sequence[Sequence[str]],
    names: Sequence[str],
    code_of: Mapping[str, int | None],
    reading: Reading,
) -> Collection[int]:
    """The rows with a cell that is no value."""
    broken: set[int] = set()
    for name, cells in zip(names, columns, strict=True):
        for row in [row for row, cell in enumerate(cells) if code_of[cell] is None]:
            broken.add(row)
            ignoring = import_again(
                reading.source, reading.config, ignore_columns=(*reading.config.ignore_columns, name)
            )
            reading.drop(
                f"{sheet.file}, line {sheet.lines[row]}, column {name!r}: {cells[row]!r} is not the value of a label",
                f"If the column is no label:\n{ignoring}\n{_counting(cells[row], reading)}Otherwise correct the cell",
            )
    return broken


def _counting(cell: str, reading: Reading) -> str:
    """What to do if a cell counts something, in lines of their own; empty for a cell that is no whole number."""
    if reading.config.threshold is not None or not cell.isdecimal():
        return ""
    line = import_again(reading.source, reading.config, threshold=1.0)
    return f"If it counts, and a label is present from 1 on:\n{line}\n"


def _meanings(
    distinct: Sequence[Counter[str]],
    names: Sequence[str],
    code_of: Mapping[str, int | None],
    reading: Reading,
    how: ImportConfig,
    asks: bool,
) -> dict[int | None, int]:
    """The value of each code.

    Raises:
        DatasetError: it is open.
    """
    if doubt := _soft_doubt(distinct, names, code_of):
        raise question(doubt, reading.source, reading.config)
    ticks = how.blank is None and _are_ticks(code_of)
    minus_one, blank = how.minus_one or "unknown", how.blank or ("absent" if ticks else "unknown")
    present, absent, n_minus_one, n_blank = (
        np.array([sum(n for cell, n in counts.items() if code_of[cell] == code) for counts in distinct])
        for code in (PRESENT, ABSENT, MINUS_ONE, BLANK)
    )
    said_absent = n_minus_one * (minus_one == "absent") + n_blank * (blank == "absent")
    open_minus_one, open_blank = n_minus_one * (how.minus_one is None), n_blank * (how.blank is None and not ticks)
    counts = ValueCounts(present, absent + said_absent, open_minus_one, open_blank)
    if asks and (doubt := values_doubt(names, counts)):
        raise question(doubt, reading.source, reading.config)
    for spoken, n, means in (("-1", n_minus_one.sum(), minus_one), ("an empty cell", n_blank.sum(), blank)):
        if n:
            reading.understood.append(f"{spoken} means that a label is {means}: {n} cells")
    unknown: dict[int | None, int] = {
        code: UNKNOWN for code, means in ((MINUS_ONE, minus_one), (BLANK, blank)) if means == "unknown"
    }
    return {PRESENT: 1, UNSURE: UNKNOWN, **unknown}


def _soft_doubt(
    distinct: Sequence[Counter[str]], names: Sequence[str], code_of: Mapping[str, int | None]
) -> Doubt | None:
    """Ask about columns with numbers between 0 and 1."""
    soft = {
        name: cell
        for name, counts in zip(names, distinct, strict=True)
        if (cell := next((cell for cell in counts if code_of[cell] == _SOFT), None))
    }
    if not soft:
        return None
    name, cell = next(iter(soft.items()))
    answers = [Answer("If a label is present from a half on", {"threshold": 0.5})]
    if len(soft) < len(names):
        answers.append(Answer("If such columns are no labels", {"ignore_columns": tuple(soft)}))
    return Doubt(f"{cell!r} in column {name!r} is neither 1 nor 0 but between them", tuple(answers))


def _are_ticks(code_of: Mapping[str, int | None]) -> bool:
    """Whether the only mark is a tick, as in a form that was ticked off: there nothing means no."""
    return {cell.casefold() for cell, code in code_of.items() if code != BLANK} <= set(_TICKS)
