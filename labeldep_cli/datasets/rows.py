"""The rows of a user's own data, made into a data set: what tables and shards share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.image_file import Members
from labeldep_cli.datasets.split import (
    SPLITS,
    Dataset,
    Draw,
    Split,
    complete,
    label_space,
    lacking,
    require_unique,
)
from labeldep_cli.errors import DatasetError


@dataclass(frozen=True)
class Rows:
    """What a user's own data hold, in whatever form: N rows.

    Attributes:
        paths: N image paths or row names.
        labels: int8 [N, L] in {0, 1, -1}.
        names: the L labels.
        splits: a split name a row; None where the data name none.
        features: float32 [N, F]; None where the rows are images.
        members: where the images lie within tars; None where they are files of their own.
        notes: what the user should know of the reading.
    """

    paths: Sequence[str]
    labels: NDArray[np.int8]
    names: Sequence[str]
    splits: Sequence[str] | None
    features: NDArray[np.float32] | None = None
    members: Members | None = None
    notes: tuple[str, ...] = ()

    @staticmethod
    def of_label_sets(
        paths: Sequence[str],
        label_sets: Sequence[Sequence[str]],
        splits: Sequence[str] | None,
        members: Members | None = None,
    ) -> Rows:
        """Encode sets of names over the sorted names that occur."""
        names = sorted({name for labels in label_sets for name in labels})
        column_of = {name: column for column, name in enumerate(names)}
        y = np.zeros((len(paths), len(names)), dtype=np.int8)
        for row, labels in enumerate(label_sets):
            y[row, [column_of[name] for name in labels]] = 1
        return Rows(paths, y, names, splits, members=members)


def label_names(labels: object, where: str, form: str) -> list[str]:
    """Check a list of label names as JSON gave it.

    Args:
        labels: the value of `labels`.
        where: the file and the place in it, for the message.
        form: how it is written rightly, for the remedy.

    Raises:
        DatasetError: it is no list, or holds something else than names.
    """
    if not isinstance(labels, list):
        raise DatasetError(f"{where}: 'labels' is {labels!r}, not a list of names", form)
    for name in labels:
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{where}: the label {name!r} is not a name", form)
    return [name.strip() for name in labels]


def as_dataset(rows: Rows, source: Path, name: str, draw: Draw) -> Dataset:
    """Make rows a data set; splits that they do not name are drawn from train.

    Args:
        rows: what was read.
        source: where from, for the messages; relative paths start from its folder.
        name: of the data set.
        draw: how to draw the splits that are lacking.

    Raises:
        DatasetError: there are no rows or labels, something stands twice, or no row is in the train split.
    """
    if len(rows.paths) == 0:
        raise DatasetError(f"{source} has no rows", "Add a row for each image.")
    require_unique(rows.paths, source)
    _require_text((*rows.paths, *rows.names), source)
    space = label_space(rows.names, source)
    if len(space) == 0:
        raise DatasetError(f"{source} names no label", "Name at least one label in at least one row.")
    whole = Split("train", tuple(rows.paths), rows.labels, space, source.parent, rows.features, members=rows.members)
    given = _given_splits(whole, rows.splits, source)
    try:
        splits, notes = complete(given, draw)
    except DatasetError as error:
        raise DatasetError(f"{source}: {error.what}", error.remedy) from None
    return Dataset(name, splits, named=False, notes=rows.notes + notes, drawn=lacking(given))


def _require_text(names: Sequence[str], source: Path) -> None:
    """Refuse halves of surrogate pairs, which JSON and tars can write and no file of ours can hold.

    Raises:
        DatasetError: names the path or label.
    """
    try:
        "\n".join(names).encode()
    except UnicodeEncodeError as error:
        broken = next(name for name in names if error.object[error.start] in name)
        raise DatasetError(
            f"{source}: {broken!r} holds a character that is no text",
            "Write it in full, in UTF-8: JSON's \\ud8.. needs its pair.",
        ) from None


def _given_splits(whole: Split, splits: Sequence[str] | None, source: Path) -> dict[str, Split]:
    """Sort the rows into the splits that are named; all are train where none is."""
    if splits is None:
        return {"train": whole}
    names = np.array(splits)
    given = {name: whole.subset(name, np.flatnonzero(names == name)) for name in SPLITS if name in set(splits)}
    if "train" not in given:
        raise DatasetError(
            f"{source}: no row is in the train split",
            "Mark rows as train, or name no splits at all to have them drawn.",
        )
    return given


def own_name(stem: str, place: Path) -> str:
    """Name a user's data set: a stem, and six hex digits of the SHA-256 of the absolute path.

    The digits keep two places of one name from sharing caches and runs.
    """
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", stem).lstrip(".") or "data"
    return f"{plain}-{hashlib.sha256(str(place).encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
