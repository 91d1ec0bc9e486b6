"""What has changed in a data set since a run was trained on it, and which of its rows the run was trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import SPLITS, Dataset
from labeldep_cli.files import counted
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
        old_rows, new_rows = old.ids.pairs(new.ids)
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


def changed_splits(record: Mapping[str, Any], dataset: Dataset) -> list[str]:
    """The splits of a data set whose fingerprint differs from the one that a run's config.json records."""
    recorded = record["dataset"]["fingerprints"]
    return [name for name in SPLITS if recorded.get(name) != dataset.splits[name].fingerprint]


def same_dataset(trained: Rows, now: Rows) -> bool:
    """Whether a data set is the one that a run was trained on: most of the run's rows are in it."""
    return 2 * n_shared(trained, now) > len(trained.ids)


def n_shared(trained: Rows, now: Rows) -> int:
    """The number of a run's rows that are in a data set, in any split."""
    return int(trained.ids.among(now.ids).sum()) if trained.has_features == now.has_features else 0


def trained_on(trained: Rows, now: Rows, name: str) -> NDArray[np.bool_]:
    """The rows of val or test that a run, or one that it started from, was trained on, bool [N]; none for train.

    A row that was in this split and in train already at training, as two copies, does not count.

    Args:
        trained: the rows that the run was trained on.
        now: the rows of the data set as it is now.
        name: name of the split.
    """
    ids = now.splits[name].ids
    if name == "train" or trained.has_features != now.has_features:
        return np.zeros(len(ids), bool)
    own = ids.among(trained.splits["train"].ids) & ~ids.among(trained.splits[name].ids)
    return own | ids.among(trained.inherited)


def validated_on(trained: Rows, now: Rows, name: str) -> NDArray[np.bool_]:
    """The rows of test that were val, and not test, when a run was trained, bool [N]; none for other splits."""
    ids = now.splits[name].ids
    if name != "test" or trained.has_features != now.has_features:
        return np.zeros(len(ids), bool)
    return ids.among(trained.splits["val"].ids) & ~ids.among(trained.splits["test"].ids)
