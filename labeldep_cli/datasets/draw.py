"""Draw the splits that a data set does not define."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import Source
from labeldep_cli.datasets.split import SPLITS, Split
from labeldep_cli.datasets.stratification import LabelCounts, stratify
from labeldep_cli.datasets.units import Units, keepers, unit_names
from labeldep_cli.errors import DatasetError


@dataclass(frozen=True)
class Draw:
    """How to draw the splits that a data set does not define.

    Attributes:
        val_fraction: share of the training rows held out for selection and thresholds.
        test_fraction: share of all rows held out for testing if the data set has no test split.
        seed: seed of this draw only, so that trainings with different seeds have the same splits.
        stratify: give each split its share of every label.
        fold: the fold of the table that is the test split; None for no fold.
    """

    val_fraction: float
    test_fraction: float
    seed: int
    stratify: bool = False
    fold: int | None = None

    @staticmethod
    def of(source: Source) -> Draw:
        """The draw that the user's settings describe."""
        return Draw(source.val_fraction, source.test_fraction, source.split_seed, source.stratify, source.fold)


def hold_out(n: int, fraction: float, seed: int, purpose: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw an exact number of rows to hold out. Which rows are drawn depends on the number of rows.

    Args:
        n: number of rows.
        fraction: share to hold out, rounded to the nearest row, at least one row and at most n - 1.
        seed: seed of the draw.
        purpose: makes draws with the same seed independent ("val", "test").

    Returns:
        (kept, held out), each ascending.

    Raises:
        DatasetError: there are fewer than two rows.
    """
    _require_two(n, purpose)
    n_held_out = min(max(round(n * fraction), 1), n - 1)
    key = int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big")
    order = np.random.default_rng(key).permutation(n)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def hold_out_published(
    paths: Sequence[str], labels: NDArray[np.int8], fraction: float, draw: Draw, purpose: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], str]:
    """Draw rows of a published data set, whose rows never change: an exact number, or stratified.

    Args:
        paths, labels: the N rows, labels int8 [N, L].
        fraction: the share to hold out.
        draw: the seed, and whether to stratify.
        purpose: as for `hold_out`.

    Returns:
        (kept, held out), each ascending, and the flags of the draw in words.

    Raises:
        DatasetError: there are fewer than two rows.
    """
    flags = f"--split-seed {draw.seed}"
    if not draw.stratify:
        return (*hold_out(len(paths), fraction, draw.seed, purpose), flags)
    drawn = hold_out_by_name(paths, fraction, draw.seed, purpose, Labels(labels), stratified=True)
    return drawn.kept, drawn.held_out, f"{flags}, --stratify"


class HeldOut(NamedTuple):
    """Rows drawn by name.

    Attributes:
        kept, held_out: row numbers, each ascending; neither is empty.
        forced: one unit was put on the side that the hashes left empty. Rows that are added later may move it back.
        n_rare: number of rows that were drawn but kept, because a label would have no other row there. Rows with this
            label that are added later may move them.
    """

    kept: NDArray[np.int64]
    held_out: NDArray[np.int64]
    forced: bool
    n_rare: int = 0


class Labels(NamedTuple):
    """The labels of the rows to draw from, so that none is lost.

    Attributes:
        of_row: int8 [N, L]; 1 present, 0 absent, -1 unknown.
        elsewhere: bool [L], the labels that rows of other splits have; None for none.
    """

    of_row: NDArray[np.int8]
    elsewhere: NDArray[np.bool_] | None = None

    def wanted(self, counts: LabelCounts) -> NDArray[np.bool_]:
        """The labels, bool [L], of which one unit must be kept: those that then still have another one."""
        n_units = counts.units_with_labels(np.ones(len(counts.sizes), bool))
        others = np.zeros(len(n_units), bool) if self.elsewhere is None else self.elsewhere
        wanted: NDArray[np.bool_] = (n_units > 1) | ((n_units == 1) & others)
        return wanted


def hold_out_by_name(
    names: Sequence[str],
    fraction: float,
    seed: int,
    purpose: str,
    labels: Labels | None = None,
    stratified: bool = False,
) -> HeldOut:
    """Draw rows to hold out by a keyed hash of each unit's name, independent of the other units.

    So rows that are added later move no earlier row to another split, unless it was forced or kept for a rare label.
    The share is only approximate: with n units its standard deviation is sqrt(fraction * (1 - fraction) / n). If the
    hash would hold out no unit, the unit with the lowest hash is forced out; if all, the one with the highest hash is
    forced to stay. A stratified draw meets the share of every label, but added rows may move others.

    Args:
        names: for each of N rows, its name, or that of its group (`unit_names`). Rows with the same name stay together.
        fraction: the share to hold out.
        seed: seed of the draw.
        purpose: makes draws with the same seed independent ("val", "test").
        labels: the rows' labels; None for a draw that does not look at them.
        stratified: hold out the same share of every label.

    Raises:
        DatasetError: there are fewer than two rows, or all are in one group.
    """
    _require_two(len(names), purpose)
    units = Units.of(names, seed, purpose)
    if len(units.hashes) < 2:
        raise DatasetError(
            f"cannot hold out a {purpose} split: all {len(names)} rows are in the group {names[0]!r}",
            "Give rows that are independent different groups, or name the splits yourself.",
        )
    counts = None if labels is None else LabelCounts.of(labels.of_row, units.of_row)
    drawn = stratify(counts, units.hashes, fraction) if stratified and counts else units.below(fraction)
    forced = bool(drawn.all() or not drawn.any())
    if forced:
        unit = units.hashes.argmax() if drawn.all() else units.hashes.argmin()
        drawn[unit] = not drawn[unit]
    rare = np.zeros(len(drawn), bool)
    if labels is not None and counts is not None:
        rare = keepers(counts, units.hashes, drawn, labels.wanted(counts))
        if (rare == drawn).all():  # one unit must be held out all the same
            rare[np.flatnonzero(drawn)[units.hashes[drawn].argmin()]] = False
    held_out = (drawn & ~rare)[units.of_row]
    return HeldOut(np.flatnonzero(~held_out), np.flatnonzero(held_out), forced, int(rare[units.of_row].sum()))


def _require_two(n: int, purpose: str) -> None:
    if n < 2:
        raise DatasetError(f"cannot hold out a {purpose} split of {n} rows", "Add rows, or name the splits yourself.")


def missing_splits(present: Mapping[str, Split]) -> frozenset[str]:
    """The names of the splits ("val", "test") that are absent or empty, and that `complete` therefore draws."""
    return frozenset(name for name in ("val", "test") if name not in present or len(present[name]) == 0)


def complete(present: Mapping[str, Split], draw: Draw) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Draw the missing splits: test from train, then val from the rest of train. No group is divided.

    Every label that two units have is in train afterwards. A note names the labels that are not.

    Args:
        present: the splits that the data set defines; "train" is among them.
        draw: fractions and seed.

    Returns:
        train, val and test, and a note for each draw.

    Raises:
        DatasetError: too few rows are left to draw from.
    """
    splits = dict(present)
    notes: list[str] = []
    for name, fraction in (("test", draw.test_fraction), ("val", draw.val_fraction)):
        if name not in missing_splits(present):
            continue
        train = splits["train"]
        others = [(split.labels == 1).any(axis=0) for key, split in splits.items() if key != "train"]
        labels = Labels(train.labels, np.any(others, axis=0) if others else None)
        names = unit_names(train.paths, train.groups)
        drawn = hold_out_by_name(names, fraction, draw.seed, name, labels, draw.stratify)
        splits["train"], splits[name] = train.subset("train", drawn.kept), train.subset(name, drawn.held_out)
        notes.append(_note(name, fraction, drawn, draw.stratify, train.groups is not None))
    if notes and (lost := labels_not_in_train(splits)):
        notes.append(f"labels without a row in train: {lost}")
    return {name: splits[name] for name in SPLITS}, tuple(notes)


def _note(name: str, fraction: float, drawn: HeldOut, stratified: bool, grouped: bool) -> str:
    """The note on a draw; it says which rows may move if others are added."""
    n, n_all = len(drawn.held_out), len(drawn.held_out) + len(drawn.kept)
    how = f"{'stratified' if stratified else 'drawn'} by {'group' if grouped else 'name'}"
    note = f"{name} = {n} of {n_all} rows ({n / n_all:.1%}), {how} (--{name}-fraction {fraction})"
    if stratified:
        return f"{note}; added rows may move some"
    if drawn.forced:
        note += ", so few that added rows may move one"
    if drawn.n_rare:
        verb = "row stays" if drawn.n_rare == 1 else "rows stay"
        note += f"; {drawn.n_rare} {verb} in train for rare labels until rows with them are added"
    return note


NAMED = 5
"""Labels that a note names."""


def labels_not_in_train(splits: Mapping[str, Split]) -> str:
    """The labels that rows of other splits have, but none of train, with the reason in words; empty if there are none.

    At most NAMED are named.
    """
    labels = np.concatenate([split.labels for split in splits.values()])
    units = np.concatenate([np.array(unit_names(split.paths, split.groups), object) for split in splits.values()])
    lost = np.flatnonzero((labels == 1).any(axis=0) & ~(splits["train"].labels == 1).any(axis=0))
    words = []
    for label in lost[:NAMED]:
        rows = np.flatnonzero(labels[:, label] == 1)
        one_group = " of one group" if len(rows) > 1 and len(set(units[rows])) == 1 else ""
        count = f"{len(rows)} row{'' if len(rows) == 1 else 's'}{one_group}"
        words.append(f"{splits['train'].space.names[label]} ({count})")
    return ", ".join(words) + (f", and {len(lost) - NAMED} more" if len(lost) > NAMED else "")
