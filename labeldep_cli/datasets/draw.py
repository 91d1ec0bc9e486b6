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


class HeldOut(NamedTuple):
    """Rows drawn by name.

    Attributes:
        kept, held_out: row numbers, each ascending; neither is empty.
        forced: one row was put on the side that the hashes left empty. Rows that are added later may move it back.
    """

    kept: NDArray[np.int64]
    held_out: NDArray[np.int64]
    forced: bool


def hold_out_by_name(names: Sequence[str], fraction: float, seed: int, purpose: str) -> HeldOut:
    """Draw rows to hold out by a keyed hash of each row's name, independent of the other rows.

    So rows that are added later move no earlier row to another split, unless a row was forced. The share is only
    approximate: with n rows its standard deviation is sqrt(fraction * (1 - fraction) / n). If the hash would hold out
    no row, the row with the lowest hash is forced out; if all, the row with the highest hash is forced to stay.

    Args:
        names: names of the N rows, all different.
        fraction: the share to hold out.
        seed: seed of the draw.
        purpose: makes draws with the same seed independent ("val", "test").

    Raises:
        DatasetError: there are fewer than two rows.
    """
    _require_two(len(names), purpose)
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    hashes = np.frombuffer(digests, dtype=">u8")
    held_out = hashes < int(fraction * 2**64)
    forced = bool(held_out.all() or not held_out.any())
    if forced:
        row = hashes.argmax() if held_out.all() else hashes.argmin()
        held_out[row] = not held_out[row]
    return HeldOut(np.flatnonzero(~held_out), np.flatnonzero(held_out), forced)


def _require_two(n: int, purpose: str) -> None:
    if n < 2:
        raise DatasetError(f"cannot hold out a {purpose} split of {n} rows", "Add rows, or name the splits yourself.")


def missing_splits(present: Mapping[str, Split]) -> frozenset[str]:
    """The names of the splits ("val", "test") that are absent or empty, and that `complete` therefore draws."""
    return frozenset(name for name in ("val", "test") if name not in present or len(present[name]) == 0)


def complete(present: Mapping[str, Split], draw: Draw) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Draw the missing splits: test from train, then val from the rest of train.

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
        kept, held_out, forced = hold_out_by_name(train.paths, fraction, draw.seed, name)
        splits["train"], splits[name] = train.subset("train", kept), train.subset(name, held_out)
        may_move = ", so few that added rows may move one" if forced else ""
        share = f"{len(held_out) / len(train):.1%}"
        rows = f"{len(held_out)} of {len(train)} rows ({share})"
        notes.append(f"{name} = {rows}, drawn by name (--{name}-fraction {fraction}){may_move}")
    return {name: splits[name] for name in SPLITS}, tuple(notes)
