"""Joining the finished parts of a cache: their features stay where they are, under one virtual data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import Split
from labeldep_cli.features.cache.parts import Part
from labeldep_cli.features.cache.read import FeatureCache
from labeldep_cli.features.cache.write import unwritable
from labeldep_cli.features.origin import Origin
from labeldep_cli.files import whole


def reasons_of(parts: Sequence[Part], command: str) -> NDArray[np.uint8]:
    """Why rows were skipped, uint8 [N], over all finished parts in order.

    Raises:
        CacheError: a part is unfinished or broken; names the command that mends it.
    """
    return np.concatenate([FeatureCache.open(part.path, command).reasons for part in parts])


def join_parts(
    path: Path,
    parts: Sequence[Part],
    split: Split,
    reasons: NDArray[np.uint8],
    shape: tuple[int, ...],
    origin: Origin,
) -> None:
    """Write the cache over its finished parts, whole or not at all.

    Its `features` is a virtual data set over theirs, by file names without a folder: cache and parts move together. All
    else is its own. Where a part is lost, HDF5 reads the fill value: NaN, which no cache holds.

    Args:
        path: of the cache.
        parts: all of them, beside it, in the order of the rows.
        split: the rows.
        reasons: uint8 [N]: theirs, see `reasons_of`.
        shape: of one view's features: (F,), or (S, F) for regions.
        origin: what the cache is made from.

    Raises:
        StorageError: the place is not writable, or lacks the room.
    """
    each = (origin.views, *shape)
    features = h5py.VirtualLayout((len(split), *each), np.float16)
    for part in parts:
        rows = part.rows.stop - part.rows.start
        name = part.path.name.replace("%", "%%")  # HDF5 takes %b for a block's number
        features[part.rows] = h5py.VirtualSource(name, "features", (rows, *each), np.float16)
    try:
        with whole(path) as beside, h5py.File(beside, "w", locking=False) as file:
            file.create_virtual_dataset("features", features, fillvalue=np.nan)
            file["labels"] = split.labels
            file["ids"] = np.array([name.encode() for name in split.paths])
            file["done"] = np.ones(len(split), np.uint8)
            file["skipped"] = reasons
            file["origin"] = np.bytes_(origin.to_json().encode())
    except RuntimeError as error:
        raise unwritable(path, error) from error
