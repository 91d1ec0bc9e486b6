"""The rows of a user's own data and how they become a data set, for tables and shards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.doubts.values import unlearnable_doubt
from labeldep_cli.datasets.draw import Draw, complete, missing_splits
from labeldep_cli.datasets.folds import splits_of_fold
from labeldep_cli.datasets.image_file import Members
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.split import SPLITS, Dataset, Split, label_space, require_unique
from labeldep_cli.datasets.units import divided_groups
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import plain_name


@dataclass(frozen=True)
class Rows:
    """The N rows of a user's own data, whatever format they come from.

    Attributes:
        paths: N image paths or row names.
        labels: int8 [N, L] in {0, 1, -1}.
        names: the L labels.
        splits: the split name of each row; None if the data name no splits.
        features: float32 [N, F]; None if the rows are images.
        members: where the images are within tars; None if they are files.
        notes: notes for the user about the reading.
        groups: the group of each row, such as a patient or a video, which no draw divides; None if there are none.
        folds: the fold of each row, counted from 0; None if there are none.
        ignored: the columns of the file that were not read.
    """

    paths: Sequence[str]
    labels: NDArray[np.int8]
    names: Sequence[str]
    splits: Sequence[str] | None
    features: NDArray[np.float32] | None = None
    members: Members | None = None
    notes: tuple[str, ...] = ()
    groups: Sequence[str] | None = None
    folds: Sequence[int] | None = None
    ignored: tuple[str, ...] = ()

    @staticmethod
    def of_label_sets(
        paths: Sequence[str],
        label_sets: Sequence[Sequence[str]],
        splits: Sequence[str] | None,
        members: Members | None = None,
        remaining: Sequence[Sequence[str]] | None = None,
        unlisted: int = 0,
    ) -> Rows:
        """Rows from sets of label names; the L labels are all names that occur, sorted.

        Args:
            paths: N paths.
            label_sets: N sets of labels that are present.
            splits, members: as in `Rows`.
            remaining: N sets of other labels; None if there are none.
            unlisted: the value of a label that is in neither set of a row: if 0, the remaining ones are unknown; if
                UNKNOWN, they are absent.
        """
        sets = (label_sets, remaining or ())
        names = sorted({name for listed in sets for labels in listed for name in labels})
        column_of = {name: column for column, name in enumerate(names)}
        y = np.full((len(paths), len(names)), unlisted, dtype=np.int8)
        for listed, value in zip(sets, (1, UNKNOWN if unlisted == 0 else 0), strict=True):
            for row, labels in enumerate(listed):
                y[row, [column_of[name] for name in labels]] = value
        return Rows(paths, y, names, splits, members=members)


def require_disjoint(labels: Sequence[str], remaining: Sequence[str], key: str, where: str) -> None:
    """Require that no label of a row is listed as present and also as unknown or absent.

    Args:
        labels: the labels that are present.
        remaining: those that are `key`.
        key: "unknown" or "absent".
        where: the file and the position in it, for the message.

    Raises:
        DatasetError: names the label.
    """
    if both := set(labels) & set(remaining):
        raise DatasetError(
            f"{where}: the label {min(both)!r} is in 'labels' and in {key!r}", "Keep it in one of the two."
        )


def label_names(labels: object, where: str, form: str, key: str = "labels") -> list[str]:
    """Check and strip a list of label names that was read from JSON.

    Args:
        labels: the list.
        where: the file and the position in it, for the message.
        form: the correct form, for the remedy.
        key: the name of the list, for the message.

    Raises:
        DatasetError: it is not a list of non-empty strings.
    """
    if not isinstance(labels, list):
        raise DatasetError(f"{where}: {key!r} is {labels!r}, not a list of names", form)
    for name in labels:
        if not isinstance(name, str) or not name.strip():
            raise DatasetError(f"{where}: the label {name!r} is not a name", form)
    return [name.strip() for name in labels]


def as_dataset(rows: Rows, source: Path, name: str, draw: Draw) -> Dataset:
    """Make a data set of rows; splits that they do not name are drawn from train.

    Args:
        rows: the rows.
        source: the file that they were read from, for messages; relative paths start from its folder.
        name: of the data set.
        draw: how to draw missing splits, or the fold to test on.

    Raises:
        DatasetError: there are no rows or no labels, a path or label is listed twice, no row is in the train split, or
            the fold is not there.
    """
    if len(rows.paths) == 0:
        raise DatasetError(f"{source} has no rows", "Add a row for each image.")
    require_unique(rows.paths, source)
    _require_text((*rows.paths, *rows.names), source)
    space = label_space(rows.names, source)
    if len(space) == 0:
        raise DatasetError(f"{source} names no label", "Name at least one label in at least one row.")
    _require_learnable(rows, source)
    all_rows = Split(
        "train",
        tuple(rows.paths),
        rows.labels,
        space,
        source.parent,
        rows.features,
        members=rows.members,
        groups=None if rows.groups is None else tuple(rows.groups),
    )
    split_names, fold_notes = splits_of_fold(draw.fold, rows.folds, rows.splits, source)
    named_splits = _named_splits(all_rows, split_names, source)
    try:
        splits, notes = complete(named_splits, draw)
    except DatasetError as error:
        raise DatasetError(f"{source}: {error.what}", error.remedy) from None
    return Dataset(
        name,
        splits,
        named=False,
        notes=rows.notes + fold_notes + notes + divided_groups(splits),
        drawn=missing_splits(named_splits),
        place=source,
        ignored=rows.ignored,
    )


def _require_learnable(rows: Rows, source: Path) -> None:
    """Refuse data of which nothing, or of a label nothing, is known.

    Raises:
        DatasetError: names the label.
    """
    doubt = unlearnable_doubt(rows.names, rows.labels)
    if doubt is None:
        return
    if rows.members is not None:  # shards are read as they are, and never imported
        raise DatasetError(f"{source}: {doubt.what}", doubt.otherwise)
    raise doubt.error(source)


def _require_text(names: Sequence[str], source: Path) -> None:
    """Refuse lone surrogates, which JSON and tars can contain but UTF-8 files cannot.

    Raises:
        DatasetError: names the path or label with one.
    """
    try:
        "\n".join(names).encode()
    except UnicodeEncodeError as error:
        broken = next(name for name in names if error.object[error.start] in name)
        raise DatasetError(
            f"{source}: {broken!r} holds half of a character",
            "Write it in full, in UTF-8: in JSON, \\ud8.. needs the second half of its pair.",
        ) from None


def _named_splits(all_rows: Split, splits: Sequence[str] | None, source: Path) -> dict[str, Split]:
    """Divide the rows by their split names; without names, all rows are train."""
    if splits is None:
        return {"train": all_rows}
    names = np.array(splits)
    named = {name: all_rows.subset(name, np.flatnonzero(names == name)) for name in SPLITS if name in set(splits)}
    if "train" not in named:
        raise DatasetError(
            f"{source}: no row is in the train split",
            "Mark rows as train, or name no splits at all to have them drawn.",
        )
    return named


def name_with_digest(stem: str, path: Path) -> str:
    """Name a user's data set: a stem, and six hex digits of the SHA-256 of its absolute path.

    The digits keep data sets with the same stem from sharing caches and runs.
    """
    plain = plain_name(stem).lstrip(".") or "data"
    return f"{plain}-{hashlib.sha256(str(path).encode('utf-8', 'surrogateescape')).hexdigest()[:6]}"
