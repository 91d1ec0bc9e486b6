"""Align a data set with a run that has other labels, and join its splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labeldep_cli.datasets.image_file import Members
from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.split import SPLITS, Dataset, Split
from labeldep_cli.errors import DatasetError

_NAMED = 5
"""Maximum number of labels that a note names."""


def aligned(dataset: Dataset, space: LabelSpace, owner: str) -> tuple[Dataset, tuple[str, ...]]:
    """Select and reorder the label columns of a data set to match other labels, by name.

    Args:
        dataset: the data set, as it was read.
        space: the requested labels.
        owner: whose labels these are, for messages ("the run x").

    Returns:
        The data set with the requested labels; labels that it does not have are unknown in every row. And one sentence
        each on missing labels and on labels that were left out.

    Raises:
        DatasetError: the two have no label in common.
    """
    present = dataset.space
    if present.names == space.names:
        return dataset, ()
    column_of = {name: column for column, name in enumerate(present.names)}
    shared = [name for name in space.names if name in column_of]
    if not shared:
        raise DatasetError(
            f"{dataset.name} has none of the labels of {owner}: "
            f"it has {_some(present.names)}, {owner} {_some(space.names)}",
            "Name the labels as the run does, or name another run.",
        )
    missing = [name for name in space.names if name not in column_of]
    extra = [name for name in present.names if name not in set(space.names)]
    notes = []
    if missing:
        notes.append(
            f"{dataset.name} lacks {len(missing)} of the {len(space)} labels of {owner}, which are unknown here: "
            + _some(missing)
        )
    if extra:
        notes.append(
            f"{owner} does not know {len(extra)} of the {len(present)} labels of {dataset.name}: {_some(extra)}"
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
    """Join all rows into every split, if both val and test were drawn; otherwise return the data set unchanged.

    The order of the rows depends on no draw: rows of ready features are in the order of their file, images in the order
    of their names.
    """
    if not {"val", "test"} <= dataset.drawn:
        return dataset
    parts = [dataset.splits[name] for name in SPLITS]
    first = parts[0]
    joined = Split(
        "all",
        tuple(path for part in parts for path in part.paths),
        np.concatenate([part.labels for part in parts]),
        first.space,
        first.root,
        first.features,
        None if first.rows is None else np.concatenate([part.rows for part in parts if part.rows is not None]),
        _joined([part.members for part in parts if part.members is not None]),
        None if first.groups is None else tuple(group for part in parts for group in part.groups or ()),
    )
    if joined.rows is None:
        order = np.array(sorted(range(len(joined)), key=joined.paths.__getitem__), np.int64)
    else:
        order = np.argsort(joined.rows)
    all_rows = joined.subset("all", order)
    splits = {name: replace(all_rows, name=name) for name in SPLITS}
    return replace(dataset, splits=splits, drawn=frozenset(), undivided=True)


def _joined(parts: list[Members]) -> Members | None:
    """Join members of the same tars, one part after the other."""
    if not parts:
        return None
    tar, offset, size = (np.concatenate([getattr(part, name) for part in parts]) for name in ("tar", "offset", "size"))
    return Members(parts[0].tars, tar, offset, size)
