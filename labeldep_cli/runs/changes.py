"""What of a data set has changed since a run was trained on it, and which of its rows the run was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import SPLITS, Dataset
from labeldep_cli.runs.rows import Rows


@dataclass(frozen=True)
class SplitChange:
    """What has changed in a split.

    Attributes:
        rows: the rows in both states that have another label now.
        cells: the labels of these rows that differ.
        added, removed: the rows that are new in the split, or no longer in it.
    """

    rows: int
    cells: int
    added: int
    removed: int

    @property
    def words(self) -> str:
        """The change in words; empty where nothing has changed."""
        words = []
        if self.cells:
            verb = "differs" if self.cells == 1 else "differ"
            words.append(f"{counted(self.cells, 'label')} of {counted(self.rows, 'row')} {verb}")
        if self.added:
            words.append(f"{counted(self.added, 'row')} more")
        if self.removed:
            words.append(f"{counted(self.removed, 'row')} less")
        return ", ".join(words)

    def to_json(self) -> dict[str, int]:
        """The fields, as JSON."""
        return asdict(self)


def counted(n: int, what: str) -> str:
    """A number of things: "1 row", "2,000 rows"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def changes(before: Rows, now: Rows) -> dict[str, SplitChange]:
    """Compare two states of a data set, by split; those that are alike are left out.

    Labels are compared by name: those that only one state has, or that nobody knows in any row now, do not count.
    """
    known = np.any([(split.labels >= 0).any(axis=0) for split in now.splits.values()], axis=0)
    shared = [name for name, there in zip(now.space.names, known, strict=True) if there and name in before.space.names]
    old, new = (_columns(rows, shared) for rows in (before, now))
    found = {}
    for name in SPLITS:
        mine, theirs = before.splits[name], now.splits[name]
        _, at, there = np.intersect1d(mine.ids, theirs.ids, assume_unique=True, return_indices=True)
        differ = old(mine.labels[at]) != new(theirs.labels[there])
        change = SplitChange(
            int(differ.any(axis=1).sum()), int(differ.sum()), len(theirs.ids) - len(at), len(mine.ids) - len(at)
        )
        if change.words:
            found[name] = change
    return found


def _columns(rows: Rows, names: list[str]) -> Callable[[NDArray[np.int8]], NDArray[np.int8]]:
    """Takes the columns of some labels out of labels [N, L]; nothing is copied where they are all there in order."""
    if rows.space.names == tuple(names):
        return lambda labels: labels
    column_of = {name: column for column, name in enumerate(rows.space.names)}
    columns = [column_of[name] for name in names]
    return lambda labels: labels[:, columns]


def in_words(found: Mapping[str, SplitChange]) -> str:
    """The changes of all splits: "train: 1 label of 1 row differs; test: 2 rows more"."""
    return "; ".join(f"{name}: {change.words}" for name, change in found.items())


def same_dataset(trained: Rows, now: Rows) -> bool:
    """Whether a data set is the one that a run was trained on: most of the run's rows are in it."""
    return 2 * n_shared(trained, now) > len(trained.ids)


def n_shared(trained: Rows, now: Rows) -> int:
    """How many of a run's rows are in a data set, in whichever split."""
    return int(np.isin(trained.ids, now.ids).sum()) if trained.has_features == now.has_features else 0


@dataclass(frozen=True)
class Leak:
    """Rows of val or test that a run was trained on.

    Attributes:
        rows: how many.
        of: the rows of the split.
        example: the name of one of them.
        certain: they are the same rows for sure. In another data set, rows may share a name by chance.
    """

    rows: int
    of: int
    example: str
    certain: bool


def find_leak(trained: Rows, now: Rows, dataset: Dataset, name: str) -> Leak | None:
    """Look in a split for rows that a run was trained on; None where there are none, and for train itself.

    Args:
        trained: what the run was trained on.
        now: the rows of `dataset`.
        dataset: as it is now.
        name: of the split.
    """
    if name == "train" or trained.has_features != now.has_features:
        return None
    ids = now.splits[name].ids
    leaked = np.flatnonzero(np.isin(ids, _learnt(trained), assume_unique=True))
    if len(leaked) == 0:
        return None
    certain = same_dataset(trained, now) or 2 * len(leaked) > len(ids)
    return Leak(len(leaked), len(ids), dataset.splits[name].paths[leaked[0]], certain)


def _learnt(trained: Rows) -> NDArray[np.int64]:
    """The rows of train. Such as stood in val or test too (rows that are alike) were scored from the beginning."""
    held_out = np.concatenate([trained.splits[name].ids for name in SPLITS[1:]])
    train = trained.splits["train"].ids
    return train[~np.isin(train, held_out)]
