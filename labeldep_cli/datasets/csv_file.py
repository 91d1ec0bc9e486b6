"""Read a user's own labels from a CSV: the canonical table, lists of names, or a column for each label."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.canonical import ABSENT_LABELS, LABELS_JSON
from labeldep_cli.datasets.cell_text import word_of
from labeldep_cli.datasets.csv_rows import CsvRows
from labeldep_cli.datasets.doubts.columns import (
    cells_doubt,
    foreign_cells_doubt,
    ignored_columns_doubt,
    label_columns_doubt,
)
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, combined
from labeldep_cli.datasets.doubts.names import columns_doubt
from labeldep_cli.datasets.doubts.values import (
    BLANK,
    MINUS_ONE,
    VALUE_CODES,
    ValueCounts,
    code_of,
    known_labels,
    values_doubt,
)
from labeldep_cli.datasets.label_cells import read_cells
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.rows import Rows, label_names, require_disjoint
from labeldep_cli.datasets.split_words import read_splits, zero_one_split
from labeldep_cli.datasets.text_file import read_text
from labeldep_cli.errors import DatasetError


def read(file: Path) -> Rows:
    """Read a CSV with the columns `path[,split][,group][,fold]` and labels.

    Labels are a column each (multi-hot: 1, 0, `?`), or one column `labels` of names with `;` between them; see
    `canonical` for `labels_json`, `unknown` and `absent`.

    Raises:
        DatasetError: the file is malformed, or leaves a question open; names the line, the column and the problem, and
            the command that answers the question.
    """
    rows = CsvRows(file, read_text(file))
    return _read_multi_hot(rows) if rows.columns.listing is None else _read_lists(rows)


def _read_multi_hot(rows: CsvRows) -> Rows:
    columns = rows.columns
    values = bytearray()
    for row in rows:
        cells = [row[k] for k in columns.labels]
        try:
            values += bytes(map(VALUE_CODES.__getitem__, cells))  # one pass in C: 16 million cells in about a second
        except KeyError:
            values += _codes(rows, cells)
    codes = np.frombuffer(bytes(values), dtype=np.uint8).reshape(len(rows.paths), len(columns.labels))
    groups = () if columns.group is None else set(rows.cells[columns.group])
    doubts = [columns_doubt(columns.names), label_columns_doubt(columns, groups), _label_called_split(rows)]
    if (codes == MINUS_ONE).any() or (codes == BLANK).any():
        doubts.append(values_doubt(columns.names, ValueCounts.of(codes)))
    if (doubt := combined(doubts)) is not None:
        raise doubt.error(rows.file)
    return _with_columns(rows, known_labels(codes), columns.names)


def _codes(rows: CsvRows, cells: Sequence[str]) -> bytes:
    """The codes of a row with values in unusual spellings."""
    codes = [code_of(cell) for cell in cells]
    if None in codes:
        k = codes.index(None)
        place = f"line {rows.lines[-1]}, column {rows.columns.names[k]!r}"
        raise foreign_cells_doubt(rows.columns, rows.again(), place, cells[k]).error(rows.file)
    return bytes(code for code in codes if code is not None)


def _label_called_split(rows: CsvRows) -> Doubt | None:
    split = rows.columns.split
    if split is None or not {cell.strip() for cell in set(rows.cells[split])} <= {"0", "1"}:
        return None
    return zero_one_split(rows.columns.name(split), rows.columns.names)


def _read_lists(rows: CsvRows) -> Rows:
    columns = rows.columns
    assert columns.listing is not None
    for _ in rows:
        pass
    n = len(rows.paths)
    lists = [rows.cells[k] for k in (columns.listing, columns.remaining) if k is not None]
    if columns.name(columns.listing).lower() == LABELS_JSON:
        sets = [_exact_names(rows, row % n, cell) for row, cell in enumerate(cell for cells in lists for cell in cells)]
        doubts = [ignored_columns_doubt(columns, rows.seen)]
    else:
        cells = read_cells([cell for cells in lists for cell in cells])
        sets = cells.label_sets
        counts = Counter(name for names in sets for name in set(names))
        doubts = [cells_doubt(cells, counts), ignored_columns_doubt(columns, rows.seen)]
    if (doubt := combined(doubts)) is not None:
        raise doubt.error(rows.file)
    if columns.remaining is None:
        read = Rows.of_label_sets(rows.paths, sets, None)
    else:
        remaining_name = columns.name(columns.remaining).lower()
        for line, present, remaining in zip(rows.lines, sets, sets[n:], strict=False):
            require_disjoint(present, remaining, remaining_name, f"{rows.file}, line {line}")
        unlisted = UNKNOWN if remaining_name == ABSENT_LABELS else 0
        read = Rows.of_label_sets(rows.paths, sets[:n], None, remaining=sets[n:], unlisted=unlisted)
    return _with_columns(rows, read.labels, read.names)


def _exact_names(rows: CsvRows, row: int, cell: str) -> list[str]:
    """The names of a JSON list, exactly as they are written."""
    where, form = f"{rows.file}, line {rows.lines[row]}", 'A cell of `labels_json` is ["sea", "sunset"].'
    try:
        names = json.loads(cell) if cell.strip() else []
    except (json.JSONDecodeError, RecursionError):
        raise DatasetError(f"{where}: {cell[:60]!r} is not valid JSON", form) from None
    label_names(names, where, form)
    return list(names)


def _with_columns(rows: CsvRows, labels: NDArray[np.int8], names: Sequence[str]) -> Rows:
    """Rows with the columns of the file that are no labels."""
    columns = rows.columns
    splits = None if columns.split is None else _splits(rows, columns.split)
    groups = None
    if columns.group is not None:
        # An empty cell is a group of its own.
        cells = (word_of(cell.strip()) for cell in rows.cells[columns.group])
        groups = [cell or path for cell, path in zip(cells, rows.paths, strict=True)]
    folds = None if columns.fold is None else _folds(rows, columns.fold)
    ignored = tuple(columns.name(k) for k in columns.ignored)
    return Rows(rows.paths, labels, names, splits, groups=groups, folds=folds, ignored=ignored)


def _splits(rows: CsvRows, column: int) -> list[str]:
    return read_splits(rows.file, rows.columns.name(column), rows.cells[column], lambda row: f"line {rows.lines[row]}")


def _folds(rows: CsvRows, column: int) -> list[int]:
    folds = []
    for line, cell in zip(rows.lines, rows.cells[column], strict=True):
        text = cell.strip().removesuffix(".0")
        if not text.isdecimal():
            name = rows.columns.name(column)
            raise Doubt(
                f"{cell!r} is no number of a fold",
                (Answer("To read the table without its folds", {"ignore_columns": (name,)}),),
                "Folds are counted from 0.",
                f"line {line}, column {name!r}",
            ).error(rows.file)
        folds.append(int(text))
    return folds
