"""What has changed in a data set since a run was trained on it, and which of its rows the run was trained on."""

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
        rows: number of rows that are in both states and whose labels differ.
        cells: number of single labels that differ in these rows.
        added, removed: number of rows that are new in the split, or no longer in it.
    """

    rows: int
    cells: int
    added: int
    removed: int

    @property
    def words(self) -> str:
        """The change in words; empty if nothing has changed."""
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
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def changes(before: Rows, now: Rows) -> dict[str, SplitChange]:
    """Compare two states of a data set, split by split; splits without a change are left out.

    Labels are compared by name. A label that only one state has does not count, nor one that is now unknown in every
    row.
    """
    known = np.any([(split.labels >= 0).any(axis=0) for split in now.splits.values()], axis=0)
    old_names = before.space.names
    shared = [name for name, is_known in zip(now.space.names, known, strict=True) if is_known and name in old_names]
    old_columns, new_columns = (_columns(rows, shared) for rows in (before, now))
    by_split = {}
    for name in SPLITS:
        old, new = before.splits[name], now.splits[name]
        _, old_rows, new_rows = np.intersect1d(old.ids, new.ids, assume_unique=True, return_indices=True)
        differ = old_columns(old.labels[old_rows]) != new_columns(new.labels[new_rows])
        change = SplitChange(
            rows=int(differ.any(axis=1).sum()),
            cells=int(differ.sum()),
            added=len(new.ids) - len(new_rows),
            removed=len(old.ids) - len(old_rows),
        )
        if change.words:
            by_split[name] = change
    return by_split


def _columns(rows: Rows, names: list[str]) -> Callable[[NDArray[np.int8]], NDArray[np.int8]]:
    """Make a function that selects columns of labels [N, L] by name; it copies nothing if `names` are all, in order."""
    if rows.space.names == tuple(names):
        return lambda labels: labels
    column_of = {name: column for column, name in enumerate(rows.space.names)}
    columns = [column_of[name] for name in names]
    return lambda labels: labels[:, columns]


def in_words(by_split: Mapping[str, SplitChange]) -> str:
    """The changes of all splits: "train: 1 label of 1 row differs; test: 2 rows more"."""
    return "; ".join(f"{name}: {change.words}" for name, change in by_split.items())


def same_dataset(trained: Rows, now: Rows) -> bool:
    """Whether a data set is the one that a run was trained on: most of the run's rows are in it."""
    return 2 * n_shared(trained, now) > len(trained.ids)


def n_shared(trained: Rows, now: Rows) -> int:
    """The number of a run's rows that are in a data set, in any split."""
    return int(np.isin(trained.ids, now.ids).sum()) if trained.has_features == now.has_features else 0


@dataclass(frozen=True)
class Leak:
    """Rows of val or test that a run was trained on.

    Attributes:
        rows: their number.
        of: the number of rows in the split.
        example: the name of one of them.
        certain: they are certainly the same rows. In another data set, rows may share a name by chance.
    """

    rows: int
    of: int
    example: str
    certain: bool


def find_leak(trained: Rows, now: Rows, dataset: Dataset, name: str) -> Leak | None:
    """Search a split for rows that a run was trained on; None if there are none, and for train itself.

    Args:
        trained: the rows that the run was trained on.
        now: the rows of `dataset`.
        dataset: the data set as it is now.
        name: name of the split.
    """
    if name == "train" or trained.has_features != now.has_features:
        return None
    ids = now.splits[name].ids
    leaked = np.flatnonzero(np.isin(ids, _ids_only_in_train(trained), assume_unique=True))
    if len(leaked) == 0:
        return None
    certain = same_dataset(trained, now) or 2 * len(leaked) > len(ids)
    return Leak(len(leaked), len(ids), dataset.splits[name].paths[leaked[0]], certain)


def _ids_only_in_train(trained: Rows) -> NDArray[np.int64]:
    """The ids of train rows that were not in val or test too: equal rows in both have been scored from the start."""
    held_out = np.concatenate([trained.splits[name].ids for name in SPLITS[1:]])
    train = trained.splits["train"].ids
    return train[~np.isin(train, held_out)]
