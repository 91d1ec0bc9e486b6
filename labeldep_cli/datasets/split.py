"""A split: its rows, where their images are, and their labels; and the random draws that make splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.decisions import Corrections
from labeldep_cli.datasets.doubts.remedies import import_command
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
        groups: the N groups, such as patients or videos, that no draw divides; None if there are none.
    """

    name: str
    paths: tuple[str, ...]
    labels: NDArray[np.int8]
    space: LabelSpace
    root: Path
    features: NDArray[np.float32] | None = None
    rows: NDArray[np.int64] | None = None
    members: Members | None = None
    groups: tuple[str, ...] | None = None

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
            groups=None if self.groups is None else tuple(self.groups[i] for i in rows),
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
        place: the file or the pattern of shards that it was read from; the folder of a named data set.
        ignored: the columns of the file that were not read.
        corrections: what the decisions of `labeldep review` have changed; None if they were not read.
    """

    name: str
    splits: Mapping[str, Split]
    named: bool
    backbone: str | None = None
    notes: tuple[str, ...] = field(default=())
    drawn: frozenset[str] = field(default=frozenset())
    undivided: bool = False
    place: Path | None = None
    ignored: tuple[str, ...] = ()
    corrections: Corrections | None = None

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
                "Merge the two rows into one. To leave out the later ones:\n"
                + import_command(source, drop_broken=True),
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
