"""Divide the rows of an import: leave out leaks, draw splits, draw folds. What is drawn is written into the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import ImportConfig
from labeldep_cli.datasets.draw import Draw, complete, missing_splits
from labeldep_cli.datasets.folds import draw_folds
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split import SPLITS, Split
from labeldep_cli.datasets.twins import Looks, leaking, twin_rows
from labeldep_cli.datasets.units import unit_names
from labeldep_cli.ingest.placing import subset


def divide(rows: Rows, config: ImportConfig, looks: Looks | None = None) -> Rows:
    """Leave out leaks, draw the splits that are missing, and draw folds, as far as the settings say so.

    Args:
        rows: the N rows, each path once.
        config: the settings of the import.
        looks: what the N images look like, for `--drop-leaks`; None to compare no images.

    Returns:
        The rows that are left, with splits, folds, and further notes.

    Raises:
        DatasetError: there are too few rows or groups to draw from.
    """
    if config.drop_leaks and looks is not None and rows.splits is not None:
        kept = ~leaking(looks, _rank(rows.splits))
        rows, looks = _without_leaks(rows, kept), looks.subset(kept)
    units = unit_names(rows.paths, rows.groups)
    if config.drop_leaks and looks is not None:
        units = with_twins(units, looks)
    if config.draw_splits:
        rows = _with_splits(rows, units, config)
    if config.folds is not None:
        folds = draw_folds(units, rows.labels, config.folds, config.split_seed, config.stratify)
        sizes = ", ".join(map(str, np.bincount(folds, minlength=config.folds)))
        rows = replace(rows, folds=folds.tolist(), notes=(*rows.notes, f"folds 0 to {config.folds - 1}: {sizes} rows"))
    return rows


def with_twins(units: Sequence[str], looks: Looks) -> list[str]:
    """The unit of each row, once units with images that look the same are joined, directly or through others."""
    joined: dict[str, str] = {}

    def first_of(name: str) -> str:
        while name in joined:
            name = joined[name]
        return name

    pairs = twin_rows(looks, np.zeros(len(units), np.int64))
    copies = _copies(looks)
    for first, second in zip(np.append(pairs.first, copies[0]), np.append(pairs.second, copies[1]), strict=True):
        low, high = sorted((first_of(units[int(first)]), first_of(units[int(second)])))
        if low != high:
            joined[high] = low
    return [first_of(unit) for unit in units]


def _copies(looks: Looks) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of rows with identical files: each copy with the next one."""
    order = np.argsort(looks.contents, kind="stable")
    contents = looks.contents[order]
    same = (contents[1:] == contents[:-1]) & (contents[1:] >= 0)
    return order[:-1][same], order[1:][same]


def _rank(splits: Sequence[str]) -> NDArray[np.int64]:
    return np.array([SPLITS.index(split) for split in splits], np.int64)


def _without_leaks(rows: Rows, kept: NDArray[np.bool_]) -> Rows:
    """Some of the rows, `kept` bool [N], with a note on the others."""
    dropped = np.flatnonzero(~kept)
    if not len(dropped):
        return replace(rows, notes=(*rows.notes, "no image of train or val has a copy in a later split"))
    images = "1 image" if len(dropped) == 1 else f"{len(dropped)} images"
    note = f"{images} of train or val left out, with a copy in a later split, such as {rows.paths[dropped[0]]!r}"
    return replace(subset(rows, np.flatnonzero(kept).tolist()), notes=(*rows.notes, note))


def _with_splits(rows: Rows, units: Sequence[str], config: ImportConfig) -> Rows:
    """The rows with the splits drawn that they lack; no unit is divided."""
    space = LabelSpace(tuple(rows.names))
    everything = Split("train", tuple(rows.paths), rows.labels, space, Path(), groups=tuple(units))
    own = np.array(["train"] * len(rows.paths) if rows.splits is None else rows.splits)
    present = {name: everything.subset(name, np.flatnonzero(own == name)) for name in SPLITS}
    if not missing_splits(present):
        return replace(rows, notes=(*rows.notes, "no split is drawn: the source has train, val and test"))
    draw = Draw(config.val_fraction, config.test_fraction, config.split_seed, config.stratify)
    splits, notes = complete(present, draw)
    split_of = {path: name for name, split in splits.items() for path in split.paths}
    written = tuple(note.removesuffix("; added rows may move some") for note in notes)
    return replace(rows, splits=[split_of[path] for path in rows.paths], notes=(*rows.notes, *written))
