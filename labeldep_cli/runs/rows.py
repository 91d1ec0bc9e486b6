"""The rows and labels that a run was trained on: `rows.safetensors` in its folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.split import SPLITS, Dataset, Split
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import ROWS


@dataclass(frozen=True)
class SplitRows:
    """The rows of a split, identified by numbers.

    Attributes:
        ids: int64 [N], all different: hashes of the rows' names, or of their features if the data set consists of ready
            features.
        labels: int8 [N, L]; 1 present, 0 absent, -1 unknown.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int8]


@dataclass(frozen=True)
class Rows:
    """The rows and labels of a data set's three splits.

    Attributes:
        space: the L labels.
        splits: by name.
        has_features: rows are identified by their features instead of their names.
    """

    space: LabelSpace
    splits: Mapping[str, SplitRows]
    has_features: bool

    @staticmethod
    def of(dataset: Dataset) -> Rows:
        """The rows of a data set as it is now."""
        splits = {name: SplitRows(row_ids(split), split.labels) for name, split in dataset.splits.items()}
        return Rows(dataset.space, splits, dataset.has_features)

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """The ids of all splits' rows."""
        return np.concatenate([self.splits[name].ids for name in SPLITS])


def row_ids(split: Split) -> NDArray[np.int64]:
    """Number the rows of a split by their content, so that a row is recognised at any position and in any split.

    An image is identified by its path as the data set writes it. Rows of ready features have no names, and their
    positions change when a row is added, so they are identified by the values of their features. If rows are equal, the
    second, third, ... get different ids.

    Returns:
        int64 [N]: 8 bytes of BLAKE2b.
    """
    if split.features is None:
        ids = _hashed(path.encode() for path in split.paths)
    else:
        ids = _hashed(row.tobytes() for block in split.feature_blocks() for row in block)
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    rank = np.arange(len(ids))
    first = np.maximum.accumulate(np.where(np.append(True, ranked[1:] != ranked[:-1])[: len(ids)], rank, 0))
    ids[order] += rank - first
    return ids


def _hashed(contents: Iterable[bytes]) -> NDArray[np.int64]:
    digests = bytearray()
    for content in contents:
        digests += hashlib.blake2b(content, digest_size=8).digest()
    return np.frombuffer(digests, "<i8").astype(np.int64)


def save_rows(folder: Path, dataset: Dataset) -> None:
    """Store which rows and labels a run is trained on: 8 bytes per row, and one or two bits per row and label.

    Raises:
        StorageError: the disk is full, read-only or without permission.
    """
    rows = Rows.of(dataset)
    tensors: dict[str, torch.Tensor] = {}
    for name, split in rows.splits.items():
        arrays = {"ids": split.ids, "present": np.packbits(split.labels > 0, axis=1)}
        if (split.labels == UNKNOWN).any():
            arrays["known"] = np.packbits(split.labels != UNKNOWN, axis=1)
        tensors |= {f"{name}.{key}": torch.from_numpy(array) for key, array in arrays.items()}
    checkpoint.save(folder / ROWS, tensors, {"labels": list(rows.space.names), "has_features": rows.has_features})


def read_rows(folder: Path) -> Rows | None:
    """The rows and labels that a run was trained on; None for a run of an older version, which did not store them.

    Raises:
        CheckpointError: the file is broken.
    """
    if not (folder / ROWS).exists():
        return None
    tensors, facts = checkpoint.load(folder / ROWS, ("labels", "has_features"))
    space = LabelSpace(tuple(facts["labels"]))
    splits = {}
    for name in SPLITS:
        ids, present, known = (tensors.get(f"{name}.{key}") for key in ("ids", "present", "known"))
        if ids is None or present is None:
            raise checkpoint.broken(folder / ROWS)
        labels = _unpacked(present, len(space))
        if known is not None:
            labels[_unpacked(known, len(space)) == 0] = UNKNOWN
        splits[name] = SplitRows(ids.numpy(), labels)
    return Rows(space, splits, bool(facts["has_features"]))


def _unpacked(bits: torch.Tensor, n_labels: int) -> NDArray[np.int8]:
    return np.unpackbits(bits.numpy(), axis=1, count=n_labels).view(np.int8)
