"""The rows and labels that a run was trained on: `rows.safetensors` in its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.split import SPLITS, Dataset, Split
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.facts import require_rows
from labeldep_cli.runs.layout import ROWS


@dataclass(frozen=True)
class RowIds:
    """What identifies N rows.

    Two rows are the same if their contents are equal, where both are known, and otherwise if their names are equal. So
    an image is recognised under another path, and another image under the same path is another row.

    Attributes:
        names: int64 [N], all different within a split: hashes of the rows' names. Rows of ready features have no names
            of their own. Instead, they have the hash of their features, plus 1, 2, ... if rows are equal.
        contents: int64 [N]: the first 8 bytes of the SHA-256 of each image's file, or a hash of ready features; 0 if it
            is unknown.
    """

    names: NDArray[np.int64]
    contents: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> RowIds:
        return RowIds(self.names[rows], self.contents[rows])

    @staticmethod
    def joined(parts: Sequence[RowIds]) -> RowIds:
        """One part after the other."""
        return RowIds(*(np.concatenate([getattr(part, key) for part in parts]) for key in ("names", "contents")))

    def among(self, others: RowIds) -> NDArray[np.bool_]:
        """Which of these rows are among others, bool [N]."""
        known, others_known = self.contents != 0, others.contents != 0
        same_content = np.isin(self.contents, others.contents[others_known])
        same_name = np.isin(self.names, others.names[~others_known])
        present: NDArray[np.bool_] = known & (same_content | same_name)
        if not known.all():
            present[~known] = np.isin(self.names[~known], others.names)
        return present

    def equal(self, others: RowIds) -> NDArray[np.bool_]:
        """Which rows are the same in both, position by position, bool [N]. Both have N rows."""
        known = (self.contents != 0) & (others.contents != 0)
        same: NDArray[np.bool_] = np.where(known, self.contents == others.contents, self.names == others.names)
        return same

    def pairs(self, others: RowIds) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The positions of rows that both have, int64 [P] here and [P] in `others`; each row is in at most one pair."""
        _, mine, theirs = np.intersect1d(self.names, others.names, assume_unique=True, return_indices=True)
        same = self[mine].equal(others[theirs])
        mine, theirs = mine[same], theirs[same]
        left = np.setdiff1d(np.flatnonzero(self.contents), mine)
        others_left = np.setdiff1d(np.flatnonzero(others.contents), theirs)
        _, moved, others_moved = np.intersect1d(
            _distinct(self.contents[left]),
            _distinct(others.contents[others_left]),
            assume_unique=True,
            return_indices=True,
        )
        return np.append(mine, left[moved]), np.append(theirs, others_left[others_moved])


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split.

    Attributes:
        ids: what identifies the N rows.
        labels: int8 [N, L]; 1 present, 0 absent, -1 unknown.
    """

    ids: RowIds
    labels: NDArray[np.int8]


NO_ROWS = RowIds(np.zeros(0, np.int64), np.zeros(0, np.int64))


@dataclass(frozen=True)
class Rows:
    """The rows and labels of a data set's three splits.

    Attributes:
        space: the L labels.
        splits: by name.
        has_features: the data set consists of ready features.
        inherited: for a run, rows that the runs it started from were trained on.
        inherits_unknown: a run that it started from has no record of its rows.
    """

    space: LabelSpace
    splits: Mapping[str, SplitRows]
    has_features: bool
    inherited: RowIds = NO_ROWS
    inherits_unknown: bool = False

    @staticmethod
    def of(dataset: Dataset, contents: Mapping[str, NDArray[np.int64]] | None = None) -> Rows:
        """The rows of a data set as it is now.

        Args:
            dataset: the data set.
            contents: by split, the contents of its images, as in `RowIds`; None if they are unknown.
        """
        splits = {
            name: SplitRows(row_ids(split, None if contents is None else contents[name]), split.labels)
            for name, split in dataset.splits.items()
        }
        return Rows(dataset.space, splits, dataset.has_features)

    @cached_property
    def ids(self) -> RowIds:
        """The rows of all splits."""
        return RowIds.joined([self.splits[name].ids for name in SPLITS])

    def trained_only(self) -> RowIds:
        """The rows that a run and the runs before it were trained on, without those that were its val or test too."""
        train = self.splits["train"].ids
        held_out = RowIds.joined([self.splits[name].ids for name in SPLITS[1:]])
        return RowIds.joined([train[~train.among(held_out)], self.inherited])


def row_ids(split: Split, contents: NDArray[np.int64] | None = None) -> RowIds:
    """Identify the rows of a split, so that a row is recognised at any position and in any split.

    Args:
        split: the split.
        contents: int64 [N], the contents of its images, as in `RowIds`; None if they are unknown.
    """
    if split.features is not None:
        hashes = _hashed(row.tobytes() for block in split.feature_blocks() for row in block)
        return RowIds(_distinct(hashes), hashes)
    names = _distinct(_hashed(path.encode() for path in split.paths))
    return RowIds(names, np.zeros(len(names), np.int64) if contents is None else contents)


def _distinct(hashes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Make hashes [N] different: the second, third, ... of equal ones are raised by 1, 2, ..."""
    order = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    rank = np.arange(len(hashes))
    first = np.maximum.accumulate(np.where(np.append(True, ranked[1:] != ranked[:-1])[: len(hashes)], rank, 0))
    distinct = hashes.copy()
    distinct[order] += rank - first
    return distinct


def _hashed(contents: Iterable[bytes]) -> NDArray[np.int64]:
    digests = bytearray()
    for content in contents:
        digests += hashlib.blake2b(content, digest_size=8).digest()
    return np.frombuffer(digests, "<i8").astype(np.int64)


def save_rows(folder: Path, rows: Rows) -> None:
    """Store which rows and labels a run is trained on: 16 bytes per row, and one or two bits per row and label.

    Raises:
        StorageError: the disk is full, read-only or without permission.
    """
    tensors: dict[str, torch.Tensor] = {}
    for name, split in rows.splits.items():
        arrays = _id_arrays(split.ids) | {"present": np.packbits(split.labels > 0, axis=1)}
        if (split.labels == UNKNOWN).any():
            arrays["known"] = np.packbits(split.labels != UNKNOWN, axis=1)
        tensors |= {f"{name}.{key}": torch.from_numpy(array) for key, array in arrays.items()}
    tensors |= {f"inherited.{key}": torch.from_numpy(array) for key, array in _id_arrays(rows.inherited).items()}
    facts = {"labels": list(rows.space.names), "has_features": rows.has_features}
    checkpoint.save(folder / ROWS, tensors, facts | {"inherits_unknown": rows.inherits_unknown})


def _id_arrays(ids: RowIds) -> dict[str, NDArray[Any]]:
    return {"ids": ids.names} | ({"contents": ids.contents} if ids.contents.any() else {})


def read_rows(folder: Path) -> Rows | None:
    """The rows and labels that a run was trained on; None for a run of an older version, which did not store them.

    Raises:
        CheckpointError: the file is broken.
    """
    if not (folder / ROWS).exists():
        return None
    tensors, facts = checkpoint.load(folder / ROWS, require_rows)
    space = LabelSpace(tuple(facts["labels"]))
    try:
        splits = {name: _split_in(tensors, name, len(space)) for name in SPLITS}
        inherited = _ids_in(tensors, "inherited") if "inherited.ids" in tensors else NO_ROWS
    except (KeyError, ValueError) as error:
        raise checkpoint.broken(folder / ROWS) from error
    return Rows(space, splits, facts["has_features"], inherited, facts.get("inherits_unknown", False))


def _split_in(tensors: Mapping[str, torch.Tensor], name: str, n_labels: int) -> SplitRows:
    ids = _ids_in(tensors, name)
    packed = (len(ids), -(-n_labels // 8))

    def unpacked(key: str) -> NDArray[np.int8]:
        bits = _shaped(tensors[f"{name}.{key}"], packed, torch.uint8)
        return np.unpackbits(bits, axis=1, count=n_labels).view(np.int8)

    labels = unpacked("present")
    if f"{name}.known" in tensors:
        labels[unpacked("known") == 0] = UNKNOWN
    return SplitRows(ids, labels)


def _ids_in(tensors: Mapping[str, torch.Tensor], name: str) -> RowIds:
    ids, contents = tensors[f"{name}.ids"], tensors.get(f"{name}.contents")
    shape = (len(ids),)
    known = np.zeros(shape, np.int64) if contents is None else _shaped(contents, shape, torch.int64)
    return RowIds(_shaped(ids, shape, torch.int64), known)


def _shaped(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> NDArray[Any]:
    """The values of a tensor that must have this shape and dtype; else ValueError."""
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise ValueError(f"{list(tensor.shape)} {tensor.dtype} instead of {list(shape)} {dtype}")
    return np.asarray(tensor.numpy())
