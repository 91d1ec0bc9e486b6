"""The labels of records as programs write them: lists of names or numbers, texts, objects, or a key for each label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labeldep_cli.datasets.csv_columns import Columns
from labeldep_cli.datasets.doubts.columns import label_columns_doubt
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.doubts.values import (
    ABSENT,
    BLANK,
    MINUS_ONE,
    PRESENT,
    UNSURE,
    ValueCounts,
    values_doubt,
)
from labeldep_cli.datasets.label_cells import SEPARATOR, read_cells
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import import_again, question
from labeldep_cli.ingest.entries import Reading
from labeldep_cli.ingest.json_values import code_of_json, is_label, is_numbers, is_share, list_of
from labeldep_cli.ingest.words import LABEL_KEYS, one_of

_BESIDE = ("unknown", "absent")
"""Lists beside the labels, as in the canonical table."""

_LEFT_OUT = object()
"""In place of the labels of a record that cannot be read."""


@dataclass(frozen=True)
class Record:
    """A record without its path, split and group.

    Attributes:
        where: its place, for messages.
        fields: its other values, by key.
    """

    where: str
    fields: Mapping[str, Any]


@dataclass
class Known:
    """What a record says of its labels.

    Attributes:
        values: 1 present, 0 absent, -1 unknown.
        unsaid: the value of all other labels, 0 or -1.
    """

    values: dict[str, int]
    unsaid: int = 0


class LabelValues:
    """Reads the labels of all records of a source, of which some say what others mean.

    Args:
        reading: its configuration answers questions; takes what there is to tell.
        names: the names of label numbers, if the source has them; else --label-names.
    """

    def __init__(self, reading: Reading, names: Sequence[str] = ()) -> None:
        self._reading, self._config = reading, reading.config
        self._names = tuple(names) or reading.config.label_names
        reading.declared += self._names
        self._ids_are_named = bool(names)
        self._opposed = 0

    def read(self, records: Sequence[Record]) -> list[Known | None]:
        """What each record says of its labels; None where it is left out.

        Raises:
            DatasetError: the labels cannot be read, or leave a question open.
        """
        first = records[0].fields if records else {}
        key = self._config.labels_column or one_of(first, LABEL_KEYS)
        if self._config.label_columns or key is None:
            cells: list[Any] = self._columns(records)
        else:
            self._ignore(records, {key, *_BESIDE})
            cells = [self._cell(record, key) for record in records]
        lists = self._named(self._parsed(cells), records)
        objects = self._valued(lists, records)
        found = [self._known(cell, record) for cell, record in zip(objects, records, strict=True)]
        self._tell_missing(lists)
        if self._opposed:
            self._reading.understood.append(f"listed as unknown or absent, too, and taken as present: {self._opposed}")
        return found

    def _columns(self, records: Sequence[Record]) -> list[Any]:
        """An object of labels for each record that has a key for each label."""
        values: dict[str, list[Any]] = {}
        for record in records:
            for key, value in record.fields.items():
                values.setdefault(key, []).append(value)
        left_out = (*_BESIDE, *self._config.ignore_columns)
        found = [key for key, column in values.items() if key not in left_out and is_label(column)]
        keys = self._config.label_columns or tuple(found)
        if not keys or not set(keys) <= values.keys():
            raise DatasetError(
                f"{self._reading.source}: {'no key has labels' if not keys else 'some of these keys are missing'}; "
                f"there are {', '.join(values) or 'none'}",
                "Name the key of a list with --labels-column, or the keys of labels with --label-columns.",
            )
        columns = Columns(tuple(keys), 0, None, None, None, None, None, tuple(range(len(keys))), ())
        if not self._config.label_columns and (doubt := label_columns_doubt(columns, ())):
            raise question(doubt, self._reading.source, self._config)
        self._ignore(records, {*keys, *_BESIDE})
        return [{key: record.fields.get(key) for key in keys} for record in records]

    def _ignore(self, records: Sequence[Record], used: set[str]) -> None:
        self._reading.ignored += sorted({key for record in records for key in record.fields} - used)

    def _cell(self, record: Record, key: str) -> Any:  # noqa: ANN401
        if key not in record.fields:
            self._reading.drop(f"{record.where}: there is no {key!r}", "Write an empty list where there is no label")
            return _LEFT_OUT
        value = record.fields[key]
        if isinstance(value, float) and math.isnan(value):  # pandas writes it for a missing value
            return None
        return value["choices"] if isinstance(value, dict) and value.keys() == {"choices"} else value

    def _parsed(self, cells: list[Any]) -> list[Any]:
        """The cells, with texts read as lists."""
        cells = [list_of(cell) if isinstance(cell, str) else cell for cell in cells]
        texts = [cell for cell in cells if isinstance(cell, str)]
        if not texts:
            return cells
        between = {"tab": "\t"}.get(self._config.label_separator or "", self._config.label_separator) or SEPARATOR
        self._reading.separator = between
        read = iter(read_cells(texts, between).label_sets)
        return [next(read) if isinstance(cell, str) else cell for cell in cells]

    def _named(self, cells: list[Any], records: Sequence[Record]) -> list[Any]:
        """The cells, with lists of numbers read as objects or lists of names."""
        cells = [[cell] if isinstance(cell, int) else cell for cell in cells]
        lists = [cell for cell in cells if isinstance(cell, list) and cell]
        if not lists or not all(map(is_numbers, lists)):
            return cells
        widths = {len(cell) for cell in lists}
        hot = (
            len(widths) == 1 and all(code_of_json(v) is not None for c in lists for v in c) and not self._ids_are_named
        )
        if hot and widths != {1} and len(self._names) != max(widths):
            raise DatasetError(
                f"{self._reading.source}: the labels are lists of {max(widths)} numbers 1 and 0, such as {lists[0]}"
                + (f", but --label-names has {len(self._names)} names" if self._names else ""),
                "Name the labels in their order:\n"
                + import_again(
                    self._reading.source,
                    self._config,
                    label_names=tuple(f"label{k + 1}" for k in range(max(widths))),
                ),
            )
        if hot and widths == {len(self._names)}:
            return [dict(zip(self._names, c, strict=True)) if isinstance(c, list) and c else c for c in cells]
        if not self._names:
            self._reading.understood.append("labels are numbers, which --label-names can name")
        return [self._by_number(c, r) if isinstance(c, list) else c for c, r in zip(cells, records, strict=True)]

    def _by_number(self, cell: list[Any], record: Record) -> Any:  # noqa: ANN401
        """The names of label numbers."""
        if not self._names:
            return [None if number is None else str(int(number)) for number in cell]
        if any(number is None or not 0 <= number < len(self._names) for number in cell):
            self._reading.drop(
                f"{record.where}: the labels are {cell}, but numbers from 0 to {len(self._names) - 1} have a name"
            )
            return _LEFT_OUT
        return [self._names[int(number)] for number in cell]

    def _valued(self, cells: list[Any], records: Sequence[Record]) -> list[Any]:
        """The cells, with the values of objects as 1, 0 and -1."""
        objects = [cell for cell in cells if isinstance(cell, dict)]
        if not objects:
            return cells
        codes: list[Any] = [
            self._codes(cell, record) if isinstance(cell, dict) else cell
            for cell, record in zip(cells, records, strict=True)
        ]
        kept = [cell for cell in codes if isinstance(cell, dict)]
        meaning = self._meaning(kept)
        says_absent = any(code == ABSENT for cell in kept for code in cell.values())
        names = {name for cell in kept for name in cell}
        if says_absent and any(cell.keys() != names for cell in kept):
            self._reading.understood.append("a label that an object of labels does not name is unknown")
        return [
            Known({name: meaning[code] for name, code in cell.items()}, UNKNOWN if says_absent else 0)
            if isinstance(cell, dict)
            else cell
            for cell in codes
        ]

    def _codes(self, cell: Mapping[str, Any], record: Record) -> Any:  # noqa: ANN401
        """The codes of an object's values; a value between 0 and 1 is compared with --threshold."""
        codes = {}
        for name, value in cell.items():
            code = code_of_json(value)
            if code is None and is_share(value):
                if self._config.threshold is None:
                    line = import_again(self._reading.source, self._config, threshold=0.5)
                    raise DatasetError(
                        f"{record.where}: {name!r} is {value!r}, neither 1 nor 0",
                        f"If it says how sure one is, say from which value on a label is present:\n{line}",
                    )
                code = PRESENT if float(value) >= self._config.threshold else ABSENT
            if code is None:
                self._reading.drop(f"{record.where}: {name!r} is {value!r}, neither 1 nor 0")
                return _LEFT_OUT
            codes[name] = code
        return codes

    def _meaning(self, cells: Sequence[Mapping[str, int]]) -> dict[int, int]:
        """The value of each code; asks what -1 and null mean where the labels leave it open."""
        names = sorted({name for cell in cells for name in cell})
        column = {name: k for k, name in enumerate(names)}
        table = np.full((len(cells), len(names)), UNSURE, dtype=np.uint8)
        for row, cell in enumerate(cells):
            table[row, [column[name] for name in cell]] = list(cell.values())
        answers = {MINUS_ONE: self._config.minus_one, BLANK: self._config.blank}
        counts = ValueCounts.of(np.where(np.isin(table, [c for c, a in answers.items() if a]), UNSURE, table))
        if doubt := values_doubt(names, counts):
            raise question(doubt, self._reading.source, self._config)
        values = {code: 0 if answer == "absent" else UNKNOWN for code, answer in answers.items()}
        return {PRESENT: 1, ABSENT: 0, UNSURE: UNKNOWN, **values}

    def _known(self, cell: Any, record: Record) -> Known | None:  # noqa: ANN401
        """What a record says, with the lists beside its labels."""
        if cell is _LEFT_OUT or (cell is None and self._config.blank != "absent"):
            return None
        if cell is None:
            return Known({})
        if isinstance(cell, list):
            if not all(isinstance(name, str) and name.strip() for name in cell):
                self._reading.drop(f"{record.where}: the labels are {cell!r}", "Write a list of names")
                return None
            cell = Known(dict.fromkeys((name.strip() for name in cell), 1))
        if not isinstance(cell, Known):
            self._reading.drop(f"{record.where}: the labels are {cell!r}", "Write a list of names")
            return None
        for key, value in zip(_BESIDE, (UNKNOWN, 0), strict=True):
            listed = record.fields.get(key)
            if listed is None:
                continue
            if not isinstance(listed, list) or not all(isinstance(name, str) and name.strip() for name in listed):
                self._reading.drop(f"{record.where}: {key!r} is {listed!r}", "Write a list of names")
                return None
            for name in listed:
                self._opposed += cell.values.setdefault(name.strip(), value) == 1
            if not value:
                cell.unsaid = UNKNOWN
        return cell

    def _tell_missing(self, cells: Sequence[Any]) -> None:
        """Tell what null is taken for; ask if no record says otherwise that it has no label."""
        blank = sum(cell is None for cell in cells)
        if not blank:
            return
        if self._config.blank is None and not any(cell == [] for cell in cells):
            meanings = ("absent", "unknown")
            answers = tuple(Answer(f"If it means that all labels are {m}", {"blank": m}) for m in meanings)
            asked = Doubt(f"{blank} records have null for their labels, and none has an empty list", answers)
            raise question(asked, self._reading.source, self._config)
        meaning = "no label" if self._config.blank == "absent" else "not labelled, and left out"
        self._reading.understood.append(f"records with null for their labels are {meaning}: {blank}")
