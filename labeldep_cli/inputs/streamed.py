"""Inputs over cached features larger than memory: a pool of blocks of rows in memory, and the next pool read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor, nn

from labeldep_cli.compute.staging import Staging
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.cache import FeatureCache, Read
from labeldep_cli.inputs.batches import Batch, Blocks, Request, evaluation_batch, staged

_BLOCK_ROWS = 1024  # maximum rows per block: 4 MB of pooled features, which any disk reads at its full rate
_POOL_BLOCKS = 16  # minimum blocks per pool: its rows come from at least this many places of the file
_POOL_ROWS = 128  # minimum rows per pool


def blocks_within(memory: int, n: int, row_bytes: int) -> Blocks | None:
    """Choose blocks and pools of n rows so that two pools, the one in use and the next one, fit in memory.

    Args:
        memory: bytes for features.
        n: number of rows.
        row_bytes: bytes of a row with all its views.

    Returns:
        None if all rows fit in memory.

    Raises:
        LabeldepError: the memory is too small; names the minimum.
    """
    if n * row_bytes <= memory:
        return None
    pool_rows = memory // 2 // row_bytes
    if pool_rows < _POOL_ROWS:
        raise LabeldepError(
            f"--max-memory leaves {memory:,} bytes for {n:,} rows of {row_bytes:,} bytes: too few for two pools",
            f"Give more: {2 * _POOL_ROWS * row_bytes:,} bytes for these rows are the least.",
        )
    rows = min(_BLOCK_ROWS, pool_rows // _POOL_BLOCKS)
    return Blocks(rows, -(-Blocks(rows, 1).count(n) // (pool_rows // rows)))


def share_memory(memory: int, sizes: Sequence[int]) -> list[int]:
    """Share memory equally, but give no item more than its size; larger items share what smaller ones leave.

    Args:
        memory: bytes.
        sizes: bytes that each item needs.

    Returns:
        Bytes for each item.
    """
    shares, left = [0] * len(sizes), memory
    ascending = sorted(range(len(sizes)), key=sizes.__getitem__)
    for done, k in enumerate(ascending):
        shares[k] = min(sizes[k], left // (len(sizes) - done))
        left -= shares[k]
    return shares


class Pool(NamedTuple):
    """The blocks in memory.

    Attributes:
        features: float16 [rows, V, *shape], on the device.
        offsets: int64 [blocks of the split], on the CPU: the first row of each block in `features`; -1 if the block is
            not in the pool.
        device_offsets: the same on the device.
        block: rows per block.
    """

    features: Tensor
    offsets: Tensor
    device_offsets: Tensor
    block: int

    def lacks(self, rows: Tensor) -> Tensor:
        """Which of `rows` are not in the pool, bool [B]; all on the CPU."""
        return self.offsets[rows // self.block] < 0

    def take(self, rows: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Look up rows, on the device.

        Returns:
            Features [B, *shape], those of an arbitrary row where the row is not in the pool; and where this is so,
            bool [B].
        """
        offsets = self.device_offsets[rows // self.block]
        missing = offsets < 0
        return self.features[torch.where(missing, 0, offsets + rows % self.block), views], missing


class StreamedInputs:
    """Inputs over a cache on disk, of which two pools of blocks are in memory.

    Args:
        cache: a finished cache.
        views: number of views.
        named: whether the data set is a row of DATASETS.
        device: the device of pools and batches.
        blocks: the blocks and pools of the usable rows.
    """

    def __init__(self, cache: FeatureCache, views: int, named: bool, device: torch.device, blocks: Blocks) -> None:
        usable = cache.usable
        self.labels = torch.from_numpy(cache.labels[usable])
        self.device_labels = self.labels.to(device)
        self.paths: Sequence[str] = [cache.paths[row] for row in usable]
        self.space = cache.space
        self.skipped = cache.skipped(named)
        self.device = device
        self.encoder: nn.Module = nn.Identity()
        self.n_views, self.feature_dim = views, cache.shape[-1]
        self.batch = evaluation_batch(cache.shape)
        self.blocks: Blocks | None = blocks
        self._blocks = blocks
        self._cache = cache
        self._staging = Staging(device)

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[list[Batch], None, None]:
        """Look up rows in the current pool; rows that are not in it are in a later pool.

        Raises:
            CacheError: the cache can no longer be read, or holds features that are not finite.
        """
        dtype = torch.get_default_dtype()
        row_pools = self._pools_in_order() if pools is None else pools
        with closing(self._read_ahead(row_pools)) as loaded:
            pool = next(loaded)
            for update in updates:
                batches = []
                for request, on_device in zip(update, staged(update, self._staging), strict=True):
                    rows, views, global_batch_size, _, draws = on_device
                    x, _ = pool.take(rows, views)
                    missing = pool.lacks(request.rows)
                    while missing.any():  # the batch spans two pools
                        pool = next(loaded)
                        more, absent = pool.take(rows, views)
                        x = torch.where(absent.view(-1, *[1] * (x.dim() - 1)), x, more)
                        missing &= pool.lacks(request.rows)
                    y = self.device_labels[rows].to(dtype)
                    batches.append(Batch(x.to(dtype), y, rows, global_batch_size, draws=draws))
                yield batches

    def _pools_in_order(self) -> Iterable[Tensor]:
        """All blocks in order, cut into pools."""
        return torch.arange(self._blocks.count(len(self.labels))).tensor_split(self._blocks.pools)

    def _read_ahead(self, row_pools: Iterable[Tensor]) -> Generator[Pool, None, None]:
        """Yield the pools in order; while one is in use, a thread reads the next into the second of two buffers."""
        pending: deque[Future[Pool]] = deque()
        buffers = cycle([self._buffer(), self._buffer()])
        with self._cache.opened(self.n_views) as read, ThreadPoolExecutor(1, "features") as reader:
            for pool, buffer in zip(row_pools, buffers, strict=False):
                pending.append(reader.submit(self._read, read, pool, buffer))
                if len(pending) == 2:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()

    def _buffer(self) -> Tensor:
        rows = self._blocks.largest(len(self.labels))
        return torch.empty(rows, self.n_views, *self._cache.shape, dtype=torch.float16, device=self.device)

    def _read(self, read: Read, pool: Tensor, buffer: Tensor) -> Pool:
        rows = self._blocks.rows_of(pool, len(self.labels))
        offsets = torch.full((self._blocks.count(len(self.labels)),), -1)
        offsets[pool] = self._blocks.rows * torch.arange(len(pool))  # only the last block of the split can be shorter
        features = buffer[: len(rows)]
        if self.device.type == "cpu":
            read(rows.numpy(), features.numpy())
        else:  # one transfer for the entire pool
            on_host = torch.empty(features.shape, dtype=features.dtype)
            read(rows.numpy(), on_host.numpy())
            features.copy_(on_host)
        return Pool(features, offsets, offsets.to(self.device), self._blocks.rows)
