"""Checksums of what a segment holds: a bit that has changed on the disk is found before a number is used.

CRC-32 finds every change of up to 32 neighbouring bits, and misses another one with a probability of 2^-32. It guards
against disks and copies, not against a person who writes both.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
from numpy.typing import NDArray

CHECKSUM = np.dtype(np.uint32)


def of_views(features: NDArray[np.float16]) -> NDArray[np.uint32]:
    """The checksum of each view of each row: float16 [B, V, *shape] -> uint32 [B, V]."""
    rows, views = features.shape[:2]
    data = np.ascontiguousarray(features).reshape(rows * views, math.prod(features.shape[2:])).view(np.uint8)
    return np.fromiter((zlib.crc32(one.data) for one in data), np.uint32, len(data)).reshape(rows, views)


def of_rows(contents: NDArray[np.uint8], reasons: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The checksums of which images the rows are, uint8 [n, 32], and of their reasons, uint8 [n]; uint32 [2]."""
    return np.array([zlib.crc32(np.ascontiguousarray(part).data) for part in (contents, reasons)], np.uint32)
