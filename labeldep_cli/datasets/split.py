"""A split: which rows, where their images lie, which labels they carry; and the draws that make splits."""

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
        paths: N image paths (row names, for ready features; keys, for images in tars) as the data set writes them;
            they identify the rows.
        labels: int8 [N, L]; 1 present, 0 absent, -1 unknown.
        space: the L labels.
        root: the folder that relative paths start from.
        features: float32 [M, F] where the data set brings features instead of images: those of all its splits, not
            copied for each.
        rows: int64 [N]: which of them are this split's; None for all, in order.
        members: where the N images lie within tars; None where they are files of their own.
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
        """Where the image of a row lies; an absolute path in the data set stands for itself."""
        return self.root / self.paths[row] if self.members is None else self.members.file(row, self.paths[row])

    def subset(self, name: str, rows: NDArray[np.integer]) -> Split:
        """The given rows, in the given order, as a split of its own."""
        own = None
        if self.features is not None:
            own = np.asarray(rows, dtype=np.int64) if self.rows is None else self.rows[rows]
        return replace(
            self,
            name=name,
            paths=tuple(self.paths[i] for i in rows),
            labels=self.labels[rows],
            rows=own,
            members=None if self.members is None else self.members.subset(rows),
        )

    def feature_blocks(self) -> Iterator[NDArray[np.float32]]:
        """The split's ready features [<= 4096, F] in order, block by block, so that no second copy is made."""
        if self.features is not None:
            for start in range(0, len(self), _BLOCK):
                part = slice(start, min(start + _BLOCK, len(self)))
                yield self.features[part if self.rows is None else self.rows[part]]

    @cached_property
    def ids_hash(self) -> str:
        """SHA-256 (hex) of the row names in order: part of every score's provenance."""
        return hashlib.sha256("\n".join(self.paths).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of row names, labels, label names and ready features: what a cache or a run was made from."""
        digest = hashlib.sha256(f"{self.ids_hash} {self.space.fingerprint}".encode())
        digest.update(self.labels.tobytes())
        for block in self.feature_blocks():
            digest.update(block.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class Dataset:
    """A data set with its three splits.

    Attributes:
        name: what caches and runs are called after.
        splits: train, val, test, in this order; a split may be empty.
        named: a row of DATASETS (its images that the disk lacks are `missing`) rather than a user's own table.
        backbone: the backbone used where the user names none; None for the program's default.
        notes: what was left out or drawn on the way, one sentence each, told to the user.
        drawn: the splits that were drawn from train here ("val", "test") rather than brought by the data set.
        undivided: it brings no splits and none were drawn: each of the three is all rows.
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
        """Whether the data set brings ready features instead of images."""
        return self.splits["train"].features is not None

    def split(self, name: str) -> Split:
        """The split of that name.

        Raises:
            DatasetError: there is no such split, or it holds no rows.
        """
        if name not in self.splits:
            raise DatasetError(f"there is no split {name!r}", nearest(name, self.splits))
        if len(self.splits[name]) == 0:
            raise DatasetError(
                f"the {name} split of {self.name} is empty",
                "Name rows of that split, or draw it: --test-fraction, --val-fraction.",
            )
        return self.splits[name]


@dataclass(frozen=True)
class Draw:
    """How the splits that a data set does not bring itself are drawn.

    Attributes:
        val_fraction: share of the training rows held out for selection and thresholds.
        test_fraction: share of all rows held out for testing where the data set has no test split.
        seed: of the draw alone, so that two training seeds share their splits.
    """

    val_fraction: float
    test_fraction: float
    seed: int


def hold_out(n: int, fraction: float, seed: int, purpose: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw rows to hold out, an exact number of them; which ones depends on how many rows there are.

    Args:
        n: number of rows.
        fraction: share to hold out, rounded to the nearest row, at least one row and at most n - 1.
        seed: of the draw.
        purpose: keeps two draws with one seed apart ("val", "test").

    Returns:
        (kept, held out), each ascending.

    Raises:
        DatasetError: there are fewer than two rows.
    """
    _require_two(n, purpose)
    held = min(max(round(n * fraction), 1), n - 1)
    key = int.from_bytes(hashlib.sha256(f"{seed} {purpose}".encode()).digest()[:8], "big")
    order = np.random.default_rng(key).permutation(n)
    return np.sort(order[held:]), np.sort(order[:held])


def hold_out_by_name(
    names: Sequence[str], fraction: float, seed: int, purpose: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw rows to hold out by a keyed hash of each row's name, whatever the other rows are.

    Rows that are added later leave every earlier row where it is. The share that is held out is therefore met nearly:
    of n rows its standard deviation is sqrt(fraction * (1 - fraction) / n). Where the hash would hold out no row, or
    all, the row with the lowest hash is held out, or the one with the highest is kept.

    Args:
        names: of the N rows, each one different.
        fraction: the share to hold out.
        seed: of the draw.
        purpose: keeps two draws with one seed apart ("val", "test").

    Returns:
        (kept, held out), each ascending; neither is empty.

    Raises:
        DatasetError: there are fewer than two rows.
    """
    _require_two(len(names), purpose)
    key = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    hashes = np.frombuffer(digests, dtype=">u8")
    held = hashes < int(fraction * 2**64)
    if not held.any():
        held[hashes.argmin()] = True
    elif held.all():
        held[hashes.argmax()] = False
    return np.flatnonzero(~held), np.flatnonzero(held)


def _require_two(n: int, purpose: str) -> None:
    if n < 2:
        raise DatasetError(f"cannot hold out a {purpose} split of {n} rows", "Add rows, or name the splits yourself.")


def lacking(given: Mapping[str, Split]) -> frozenset[str]:
    """Name the splits ("val", "test") that a data set does not bring, and that `complete` will therefore draw."""
    return frozenset(name for name in ("val", "test") if name not in given or len(given[name]) == 0)


def complete(given: Mapping[str, Split], draw: Draw) -> tuple[dict[str, Split], tuple[str, ...]]:
    """Draw the splits that a data set lacks: test from train, then val from what is left of train.

    Args:
        given: the data set's own splits; "train" is among them.
        draw: fractions and seed.

    Returns:
        train, val and test, and a note for each draw.

    Raises:
        DatasetError: too few rows are left to draw from.
    """
    splits = dict(given)
    notes: list[str] = []
    for name, fraction in (("test", draw.test_fraction), ("val", draw.val_fraction)):
        if name not in lacking(given):
            continue
        train = splits["train"]
        kept, held = hold_out_by_name(train.paths, fraction, draw.seed, name)
        splits["train"], splits[name] = train.subset("train", kept), train.subset(name, held)
        notes.append(
            f"{name} = {len(held)} of {len(train)} rows ({len(held) / len(train):.1%}), drawn from train by a hash of "
            f"their names: rows added later move none of them (--{name}-fraction {fraction}, --split-seed {draw.seed})"
        )
    return {name: splits[name] for name in SPLITS}, tuple(notes)


def require_unique(paths: Sequence[str], source: Path) -> None:
    """Refuse a list that names one image twice.

    Raises:
        DatasetError: names the path and its two places (rows count from 1).
    """
    first: dict[str, int] = {}
    for row, path in enumerate(paths, start=1):
        if path in first:
            raise DatasetError(
                f"{source}: the path {path!r} stands twice, as entries {first[path]} and {row}",
                "Merge the two rows into one.",
            )
        first[path] = row


def label_space(names: Sequence[str], source: Path) -> LabelSpace:
    """Build the label space that a file describes.

    Raises:
        DatasetError: a label stands twice; it names the file too.
    """
    try:
        return LabelSpace(tuple(names))
    except DatasetError as error:
        raise DatasetError(f"{source}: {error.what}", error.remedy) from None


def unknown_split(source: Path, where: str, value: object) -> DatasetError:
    """The error for a row whose split is none of SPLITS; `where` names the row."""
    return DatasetError(f"{source}, {where}: unknown split {value!r}", "A split is train, val or test.")


@dataclass(frozen=True)
class Skipped:
    """A row whose image could not be used.

    Attributes:
        path: as the data set (or the user) writes it.
        reason: why, in a few words.
        missing: a named data set lists it and the disk lacks it.
    """

    path: str
    reason: str
    missing: bool = False

    def to_json(self) -> dict[str, str]:
        """The record in `skipped` of every command's JSON."""
        return {"path": self.path, "reason": self.reason}
