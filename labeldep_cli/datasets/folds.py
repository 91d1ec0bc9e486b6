"""Folds: parts of a data set, each of which is the test split once."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.doubts.remedies import import_command
from labeldep_cli.datasets.stratification import LabelCounts, stratify
from labeldep_cli.datasets.units import Units, keepers
from labeldep_cli.errors import DatasetError


class NoFoldsError(DatasetError):
    """A fold is requested of a data set that has none."""


def splits_of_fold(
    fold: int | None, folds: Sequence[int] | None, splits: Sequence[str] | None, source: Path
) -> tuple[Sequence[str] | None, tuple[str, ...]]:
    """The splits of a data set if one of its folds is tested on.

    Rows of the fold are test. Rows of other folds are val if the data set says so, else train, even those that it calls
    test: its folds take the place of its test split.

    Args:
        fold: the fold to test on; None for none.
        folds: the fold of each row; None if the data set has no folds.
        splits: the split of each row; None if the data set has no splits.
        source: the file, for messages.

    Returns:
        The split of each row, None if the data set has none; and notes for the user.

    Raises:
        NoFoldsError: a fold is requested of a data set that has none.
        DatasetError: there is no such fold, or no other one to train on; or the data set has folds, no splits, and no
            fold is requested.
    """
    if folds is None:
        if fold is not None:
            command = import_command(source, folds=5)
            raise NoFoldsError(f"{source} has no folds to test on, as --fold {fold} asks", f"Draw them:\n{command}")
        return splits, ()
    known = sorted(set(folds))
    if fold is None:
        if splits is not None:
            return splits, (f"the folds {_listed(known)} are not used; --fold {known[0]} tests on one of them",)
        raise DatasetError(f"{source} has the folds {_listed(known)}, but no splits", _try_fold(source, known[0]))
    if fold not in known:
        raise DatasetError(f"{source} has no fold {fold}: it has {_listed(known)}", _try_fold(source, known[0]))
    if len(known) == 1:
        raise DatasetError(f"all rows of {source} are in fold {fold}: none is left to train on", "Draw folds again.")
    own = ["train"] * len(folds) if splits is None else splits
    divided = [
        "test" if row_fold == fold else "val" if split == "val" else "train"
        for row_fold, split in zip(folds, own, strict=True)
    ]
    note = f"test = fold {fold} of {_listed(known)}, {divided.count('test')} of {len(divided)} rows"
    moved = sum(split == "test" and new == "train" for split, new in zip(own, divided, strict=True))
    if moved:
        note += f"; rows of the table's own test split that are in train, since they are in other folds: {moved}"
    return divided, (note,)


def _listed(folds: Sequence[int]) -> str:
    return ", ".join(map(str, folds[:10])) + (", ..." if len(folds) > 10 else "")


def _try_fold(source: Path, fold: int) -> str:
    return f"Name the fold to test on:\nlabeldep data {shlex.quote(str(source))} --fold {fold}"


def draw_folds(
    names: Sequence[str], labels: NDArray[np.int8], n_folds: int, seed: int, stratified: bool = True
) -> NDArray[np.int64]:
    """Draw folds of about the same size; the rows of a unit are in one fold.

    Fold 0 is drawn from all rows as a test split is, fold 1 from the rest, and so on. A label of two units or more is
    not left in one fold alone, if that can be mended by moving one unit.

    Args:
        names: for each of N rows, its name, or that of its group (`unit_names`).
        labels: int8 [N, L]; 1 present, 0 absent, -1 unknown.
        n_folds: the number of folds, at least 2.
        seed: seed of the draw.
        stratified: give each fold the same share of every label.

    Returns:
        int64 [N], the fold of each row, from 0.

    Raises:
        DatasetError: there are fewer units than folds.
    """
    units = Units.of(names, seed, "folds")
    n_units = len(units.hashes)
    if n_units < n_folds:
        what = "rows" if n_units == len(names) else "groups"
        raise DatasetError(f"cannot draw {n_folds} folds of {n_units} {what}", f"Draw at most {n_units}, or add rows.")
    counts = LabelCounts.of(labels, units.of_row)
    shared = counts.units_with_labels(np.ones(n_units, bool)) > 1
    fold, left = np.full(n_units, n_folds - 1), np.ones(n_units, bool)
    for number in range(n_folds - 1):
        share = 1 / (n_folds - number)
        mine = np.zeros(n_units, bool)
        hashes = units.hashes[left]
        mine[left] = stratify(counts.among(left), hashes, share) if stratified else _lowest(hashes, share)
        mine &= ~keepers(counts, units.hashes, mine, shared)
        fold[mine], left[mine] = number, False
    fold[keepers(counts, units.hashes, fold == n_folds - 1, shared)] = 0
    return fold[units.of_row]


def _lowest(hashes: NDArray[np.uint64], share: float) -> NDArray[np.bool_]:
    """The units with the lowest hashes, bool [U]: this share of them."""
    lowest = np.zeros(len(hashes), bool)
    lowest[np.argsort(hashes)[: round(share * len(hashes))]] = True
    return lowest
