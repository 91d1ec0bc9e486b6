"""A split: its rows, where their images are, and their labels; and the random draws that make splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.image_file import ImageFile, Members
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.errors import DatasetError, nearest

SPLITS = ("train", "val", "test")
_BLOCK = 4096


@dataclass(frozen=True)
class Split:
    """N rows of a data set.

    Attributes:
        name: train, val or test.
        paths: N image paths as the data set writes them (for ready features, row names; for images in tars, keys).
            They identify the rows.
        labels: int8 [N, L]; 1 present, 0 absent, -1 unknown.
        space: the L labels.
        root: the folder that relative paths start from.
        features: float32 [M, F] if the data set has features instead of images. The array has the rows of all splits
            and is not copied for each split.
        rows: int64 [N], the rows of `features` that belong to this split; None for all, in order.
        members: where the N images are within tars; None if they are files.
    """

    name: str
    paths: tuple[str, ...]
    labels: NDArray[np.int8]
    space: LabelSpace
    root: Path
    features: NDArray[np.float32] | None = None
    rows: NDArray[np.int64] | None = None
    members: Members | None = None

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.paths), len(self.space)):
            raise ValueError(f"labels {self.labels.shape} for {len(self.paths)} paths and {len(self.space)} labels")

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, row: int) -> ImageFile:
        """The image file of a row; an absolute path in the data set is used unchanged."""
        return self.root / self.paths[row] if self.members is None else self.members.file(row, self.paths[row])

    def subset(self, name: str, rows: NDArray[np.integer]) -> Split:
        """A new split of the given rows, in the given order."""
        feature_rows = None
        if self.features is not None:
            feature_rows = np.asarray(rows, dtype=np.int64) if self.rows is None else self.rows[rows]
        return replace(
            self,
            name=name,
            paths=tuple(self.paths[i] for i in rows),
            labels=self.labels[rows],
            rows=feature_rows,
            members=None if self.members is None else self.members.subset(rows),
        )

    def feature_blocks(self) -> Iterator[NDArray[np.float32]]:
        """The split's ready features in order, in blocks [<= 4096, F], so that they are never copied as a whole."""
        if self.features is not None:
            for start in range(0, len(self), _BLOCK):
                part = slice(start, min(start + _BLOCK, len(self)))
                yield self.features[part if self.rows is None else self.rows[part]]

    @cached_property
    def ids_hash(self) -> str:
        """SHA-256 (hex) of the row names in order; it is recorded with every score."""
        return hashlib.sha256("\n".join(self.paths).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of row names, labels, label names and ready features: the data that a run was trained on."""
        digest = hashlib.sha256(f"{self.ids_hash} {self.space.fingerprint}".encode())
        digest.update(self.labels.tobytes())
        for block in self.feature_blocks():
            digest.update(block.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A data set with its three splits.

    Attributes:
        name: part of the names of caches and runs.
        splits: train, val, test, in this order; a split may be empty.
        named: the data set is a row of DATASETS, whose images may be `missing` on the disk, and not a user's own data.
        backbone: the default backbone of this data set; None for the program's default.
        notes: notes for the user, one sentence each, about rows that were left out and splits that were drawn.
        drawn: the splits ("val", "test") that were drawn from train because the data set does not define them.
        undivided: the data set defines no splits and none were drawn: each of the three splits has all rows.
    """

    name: str
    splits: Mapping[str, Split]
    named: bool
    backbone: str | None = None
    notes: tuple[str, ...] = field(default=())
    drawn: frozenset[str] = field(default=frozenset())
    undivided: bool = False

    @property
    def space(self) -> LabelSpace:
        """The labels, shared by all splits."""
        return self.splits["train"].space

    @property
    def has_features(self) -> bool:
        """Whether the data set has ready features instead of images."""
        return self.splits["train"].features is not None

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            DatasetError: there is no such split, or it has no rows.
        """
        if name not in self.splits:
            raise DatasetError(f"there is no split {name!r}", nearest(name, self.splits))
        if len(self.splits[name]) == 0:
            raise DatasetError(
                f"the {name} split of {self.name} is empty",
                "Assign rows to that split, or draw it: --test-fraction, --val-fraction.",
            )
        return self.splits[name]


@dataclass(frozen=True)
class Draw:
    """How to draw the splits that a data set does not define.

    Attributes:
        val_fraction: share of the training rows held out for selection and thresholds.
        test_fraction: share of all rows held out for testing if the data set has no test split.
        seed: of the draw only, so that trainings with different seeds have the same splits.
    """

    val_fraction: float
    test_fraction: float
    seed: int


def hold_out(n: int, fraction: float, seed: int, purpose: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw an exact number of rows to hold out. Which rows are drawn depends on the number of rows.

    Args:
        n: number of rows.
        fraction: share to hold out, rounded to the nearest row, at least one row and at most n - 1.
        seed: of the draw.
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


def hold_out_by_name(
    names: Sequence[str], fraction: float, seed: int, purpose: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw rows to hold out by a keyed hash of each row's name, independent of the other rows.

    So rows that are added later move no earlier row to another split. The share is therefore only approximate: with n
    rows its standard deviation is sqrt(fraction * (1 - fraction) / n). If the hash would hold out no row, the row with
    the lowest hash is held out; if it would hold out all, the row with the highest hash is kept.

    Args:
        names: of the N rows, all different.
        fraction: the share to hold out.
        seed: of the draw.
        purpose: makes draws with the same seed independent ("val", "test").

    Returns:
        (kept, held out), each ascending; neither is empty.

    Raises:
        DatasetError: there are fewer than two rows.
    """
    _require_two(len(names), purpose)
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    hashes = np.frombuffer(digests, dtype=">u8")
    held_out = hashes < int(fraction * 2**64)
    if not held_out.any():
        held_out[hashes.argmin()] = True
    elif held_out.all():
        held_out[hashes.argmax()] = False
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


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
        kept, held_out = hold_out_by_name(train.paths, fraction, draw.seed, name)
        splits["train"], splits[name] = train.subset("train", kept), train.subset(name, held_out)
        notes.append(
            f"{name} = {len(held_out)} of {len(train)} rows ({len(held_out) / len(train):.1%}), drawn from train by a "
            "hash of their names: rows added later move none of them "
            f"(--{name}-fraction {fraction}, --split-seed {draw.seed})"
        )
    return {name: splits[name] for name in SPLITS}, tuple(notes)


def require_unique(paths: Sequence[str], source: Path) -> None:
    """Require that a list names no image twice.

    Raises:
        DatasetError: names the path and its two rows, counted from 1.
    """
    first: dict[str, int] = {}
    for row, path in enumerate(paths, start=1):
        if path in first:
            raise DatasetError(
                f"{source}: the path {path!r} is listed twice, as entries {first[path]} and {row}",
                "Merge the two rows into one.",
            )
        first[path] = row


def label_space(names: Sequence[str], source: Path) -> LabelSpace:
    """Build the label space of a file.

    Raises:
        DatasetError: a label is used twice; the message names the file.
    """
    try:
        return LabelSpace(tuple(names))
    except DatasetError as error:
        raise DatasetError(f"{source}: {error.what}", error.remedy) from None


def unknown_split(source: Path, where: str, value: object) -> DatasetError:
    """The error for a row whose split is not in SPLITS; `where` names the row."""
    return DatasetError(f"{source}, {where}: unknown split {value!r}", "A split is train, val or test.")


@dataclass(frozen=True)
class Skipped:
    """A row whose image could not be used.

    Attributes:
        path: as the data set or the user writes it.
        reason: in a few words.
        missing: the file does not exist, and the data set is a named one.
    """

    path: str
    reason: str
    missing: bool = False

    def to_json(self) -> dict[str, str]:
        """The record in `skipped` of every command's JSON."""
        return {"path": self.path, "reason": self.reason}
