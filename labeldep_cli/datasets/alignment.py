"""A data set as a run with labels of its own sees it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labeldep_cli.datasets.image_file import Members
from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.split import SPLITS, Dataset, Split
from labeldep_cli.errors import DatasetError

_NAMED = 5
"""Labels that a note names."""


def aligned(dataset: Dataset, space: LabelSpace, owner: str) -> tuple[Dataset, tuple[str, ...]]:
    """Bring a data set's labels into the order of other ones, by name.

    Args:
        dataset: as it was read.
        space: the labels that are wanted.
        owner: whose labels they are, for the messages ("the run x").

    Returns:
        The data set with these labels, those that it lacks being unknown everywhere; and what was left out or lacks,
        one sentence each.

    Raises:
        DatasetError: the two have no label in common.
    """
    mine = dataset.space
    if mine.names == space.names:
        return dataset, ()
    column_of = {name: column for column, name in enumerate(mine.names)}
    shared = [name for name in space.names if name in column_of]
    if not shared:
        raise DatasetError(
            f"{dataset.name} has none of the labels of {owner}: "
            f"it has {_some(mine.names)}, {owner} {_some(space.names)}",
            "Name the labels as the run does, or name another run.",
        )
    lacking = [name for name in space.names if name not in column_of]
    further = [name for name in mine.names if name not in set(space.names)]
    notes = []
    if lacking:
        notes.append(
            f"{dataset.name} lacks {len(lacking)} of the {len(space)} labels of {owner}, which are unknown here: "
            + _some(lacking)
        )
    if further:
        notes.append(
            f"{owner} does not know {len(further)} of the {len(mine)} labels of {dataset.name}: {_some(further)}"
        )
    columns = [column_of.get(name, -1) for name in space.names]
    splits = {name: _with_columns(split, columns, space) for name, split in dataset.splits.items()}
    return replace(dataset, splits=splits), tuple(notes)


def _with_columns(split: Split, columns: list[int], space: LabelSpace) -> Split:
    labels = split.labels[:, columns]
    labels[:, np.array(columns) < 0] = UNKNOWN
    return replace(split, labels=labels, space=space)


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f", and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def undivided(dataset: Dataset) -> Dataset:
    """The same rows without a division, where the data set brings neither val nor test: every split is all rows."""
    if not {"val", "test"} <= dataset.drawn:
        return dataset
    parts = [dataset.splits[name] for name in SPLITS]
    first = parts[0]
    whole = Split(
        "all",
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.labels for part in parts]),
        first.space,
        first.root,
        first.features,
        None if first.rows is None else np.concatenate([part.rows for part in parts if part.rows is not None]),
        _joined([part.members for part in parts if part.members is not None]),
    )
    splits = {name: replace(whole, name=name) for name in SPLITS}
    return replace(dataset, splits=splits, drawn=frozenset(), undivided=True)


def _joined(parts: list[Members]) -> Members | None:
    """Places within the same tars, one part after the other."""
    if not parts:
        return None
    tar, offset, size = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tar", "offset", "size"))
    return Members(parts[0].tars, tar, offset, size)
