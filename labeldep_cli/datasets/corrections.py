"""Applies the decisions of `labeldep review` to a data set as its table has it.

Only labels that a decision changed are changed. A label that the table has otherwise than the decision found it, and
otherwise than it was decided, has been changed by somebody else since: such a correction is not applied, but told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.decision_file import FILE, read
from labeldep_cli.datasets.decisions import Conflict, Corrections, Decision, LabelSet, changed_labels, settled, standing
from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split import Dataset, Split

_WORDS = {1: "present", 0: "absent", UNKNOWN: "unknown"}


@dataclass(frozen=True)
class Place:
    """Where the decisions on a data set are.

    Attributes:
        file: corrections.csv beside the table, or in the folder of a named data set.
        table: the name by which its lines know the data set.
    """

    file: Path
    table: str

    @staticmethod
    def of(place: Path) -> Place:
        """The decisions on the data set that was read from a file, a pattern of shards or a folder."""
        if place.is_dir():
            return Place(place / FILE, place.resolve().name)
        folder = next((parent for parent in place.parents if parent.is_dir()), place.parent)
        return Place(folder / FILE, place.relative_to(folder).as_posix())

    def decisions(self) -> dict[str, tuple[Decision, ...]]:
        """The standing decisions on each image.

        Raises:
            DatasetError: the file cannot be read, or is none of decisions.
        """
        return self.state()[0]

    def state(self) -> tuple[dict[str, tuple[Decision, ...]], tuple[str, ...]]:
        """As `decisions`; and if there is none, the tables of the file's decisions, if all of them are gone.

        Raises:
            DatasetError: as of `decisions`.
        """
        every = read(self.file)
        tables = tuple(sorted({decision.table for decision in every}))
        is_lost = self.table not in tables and not any((self.file.parent / table).exists() for table in tables)
        own = standing(decision for decision in every if decision.table == self.table)
        return own, tables if is_lost else ()


def corrected(dataset: Dataset) -> Dataset:
    """The data set with the decisions on it applied; splits and the order of rows stay.

    Raises:
        DatasetError: the file of decisions cannot be read, or is none of decisions.
    """
    if dataset.place is None:
        return dataset
    place = Place.of(dataset.place)
    splits, found = _apply(dataset.splits.values(), place)
    return replace(dataset, splits={split.name: split for split in splits}, corrections=found)


def corrected_rows(rows: Rows, place: Path) -> tuple[Rows, Corrections]:
    """Rows with the decisions on them applied, to be written into a new table.

    Args:
        rows: the rows as they were read.
        place: the file or the pattern of shards that they were read from.

    Raises:
        DatasetError: the file of decisions cannot be read, or is none of decisions.
    """
    split = Split("all", tuple(rows.paths), rows.labels, LabelSpace(tuple(rows.names)), place.parent, rows.features)
    (split,), found = _apply([split], Place.of(place))
    return replace(rows, labels=split.labels), found


def _apply(splits: Iterable[Split], place: Place) -> tuple[list[Split], Corrections]:
    """Correct the labels of all splits; a split without a correction is returned as it is."""
    decisions, renamed = place.state()
    settling = {path: stack for path, stack in decisions.items() if settled(stack)}
    gone = dict.fromkeys(settling)
    decided: set[str] = set()
    conflicts: list[Conflict] = []
    corrected_splits = []
    images = labels = 0
    for split in splits:
        y = split.labels.copy() if settling else split.labels
        for row, path in enumerate(split.paths if settling else ()):
            if path not in settling or not is_content(split, row, settling[path][-1]):
                continue
            gone.pop(path, None)
            y[row], conflicting = replay(split.space, split.labels[row], settling[path])
            conflicts += conflicting
            if not conflicting:
                decided.add(path)
            n_changed = int((y[row] != split.labels[row]).sum())
            images, labels = images + bool(n_changed), labels + n_changed
        corrected_splits.append(split if np.array_equal(y, split.labels) else replace(split, labels=y))
    n_skipped = len(decisions) - len(settling)
    found = Corrections(
        place.file, frozenset(decided), images, labels, tuple(conflicts), tuple(gone), n_skipped, renamed
    )
    return corrected_splits, found


def replay(
    space: LabelSpace, y: NDArray[np.int8], stack: Sequence[Decision]
) -> tuple[NDArray[np.int8], list[Conflict]]:
    """A row as its decisions leave it, and the corrections among them that do not fit the row.

    A later decision that was taken on the row as it is, settles what an earlier one left in conflict.

    Args:
        space: the L labels.
        y: the row as the table has it, int8 [L].
        stack: the standing decisions on it, oldest first.
    """
    values, numbers = y.copy(), space.numbers
    conflicts: dict[str, Conflict] = {}

    def value(name: str) -> int:
        return int(values[numbers[name]]) if name in numbers else 0

    for decision in stack:
        if not decision.settles:
            continue
        for name in [name for name in conflicts if value(name) == decision.before.value(name)]:
            del conflicts[name]
        for name, (before, after) in changed_labels(decision).items():
            if name not in numbers:
                conflicts[name] = Conflict(decision.path, name, "no label any more")
            elif value(name) not in (before, after):
                reason = f"{_WORDS[value(name)]} in the table, but changed from {_WORDS[before]} to {_WORDS[after]}"
                conflicts[name] = Conflict(decision.path, name, reason)
            else:
                values[numbers[name]] = after
                conflicts.pop(name, None)
    return values, list(conflicts.values())


def label_set(space: LabelSpace, y: NDArray[np.int8]) -> LabelSet:
    """The labels of a row int8 [L], by name."""
    names = space.names
    return LabelSet(tuple(names[k] for k in np.flatnonzero(y > 0)), tuple(names[k] for k in np.flatnonzero(y < 0)))


def content_of(split: Split, row: int) -> str:
    """A digest of a row's ready features, whose name is only a number; empty for an image."""
    if split.features is None:
        return ""
    features = split.features[row if split.rows is None else split.rows[row]]
    return hashlib.blake2b(features.tobytes(), digest_size=8).hexdigest()


def is_content(split: Split, row: int, decision: Decision) -> bool:
    """Whether a row is the one that a decision is about, and not another one with its number."""
    return not decision.content or decision.content == content_of(split, row)
