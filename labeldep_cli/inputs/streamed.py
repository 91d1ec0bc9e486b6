"""Cached features larger than memory: blocks of rows, a pool of them held, the next one read ahead of its use."""

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

_BLOCK = 1024  # rows at most: of pooled features 4 MB, which any disk reads at its full rate
_BLOCKS = 16  # of a pool at least: rows are mixed over so many places of the file
_LEAST = 128  # rows of a pool at least


def blocks_within(memory: int, n: int, row_bytes: int) -> Blocks | None:
    """How n rows are read so that two pools of them, the one in use and the next one, fit in memory.

    Args:
        memory: bytes for features.
        n: rows.
        row_bytes: bytes of a row, all its views.

    Returns:
        None where all rows fit.

    Raises:
        LabeldepError: the memory is too small; names the least.
    """
    if n * row_bytes <= memory:
        return None
    most = memory // 2 // row_bytes  # rows a pool
    if most < _LEAST:
        raise LabeldepError(
            f"--max-memory leaves {memory:,} bytes for {n:,} rows of {row_bytes:,} bytes: too few for two pools",
            f"Give more: {2 * _LEAST * row_bytes:,} bytes for these rows are the least.",
        )
    rows = min(_BLOCK, most // _BLOCKS)
    return Blocks(rows, -(-Blocks(rows, 1).count(n) // (most // rows)))


def share_memory(memory: int, sizes: Sequence[int]) -> list[int]:
    """Share memory out: what is smaller than an equal share gets its size, and leaves the rest to the larger ones."""
    given, left = [0] * len(sizes), memory
    ascending = sorted(range(len(sizes)), key=sizes.__getitem__)
    for taken, k in enumerate(ascending):
        given[k] = min(sizes[k], left // (len(sizes) - taken))
        left -= given[k]
    return given


class Pool(NamedTuple):
    """Blocks that are held.

    Attributes:
        features: float16 [rows, V, *shape], on the device.
        places: int64 [blocks of the split], on the CPU: where a block begins among them; -1 where it is not held.
        device_places: the same on the device.
        block: rows of a block.
    """

    features: Tensor
    places: Tensor
    device_places: Tensor
    block: int

    def lacks(self, rows: Tensor) -> Tensor:
        """Which rows are not among these, bool [B]; on the CPU, as `rows` are."""
        return self.places[rows // self.block] < 0

    def take(self, rows: Tensor, views: Tensor) -> tuple[Tensor, Tensor]:
        """Look rows up, on the device.

        Returns:
            Features [B, *shape], of some other row where one is not among these; which ones those are, bool [B].
        """
        begun = self.device_places[rows // self.block]
        lacking = begun < 0
        return self.features[torch.where(lacking, 0, begun + rows % self.block), views], lacking


class StreamedInputs:
    """Inputs over a cache that stays on disk but for two pools of its blocks.

    Args:
        cache: a finished cache.
        views: how many of its views.
        named: the data set is a row of DATASETS.
        device: where pools and batches are put.
        blocks: how its usable rows are read.
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
        """Look rows up in the pool in use; a row that is not there is in a later one.

        Raises:
            CacheError: the cache can no longer be read, or holds features that are not finite.
        """
        dtype = torch.get_default_dtype()
        row_pools = self._in_turn() if pools is None else pools
        with closing(self._read_ahead(row_pools)) as held:
            pool = next(held)
            for update in updates:
                batches = []
                for request, there in zip(update, staged(update, self._staging), strict=True):
                    rows, views, global_batch_size, _, draws = there
                    x, _ = pool.take(rows, views)
                    missing = pool.lacks(request.rows)
                    while missing.any():  # the batch straddles two pools
                        pool = next(held)
                        late, lacking = pool.take(rows, views)
                        x = torch.where(lacking.view(-1, *[1] * (x.dim() - 1)), x, late)
                        missing &= pool.lacks(request.rows)
                    y = self.device_labels[rows].to(dtype)
                    batches.append(Batch(x.to(dtype), y, rows, global_batch_size, draws=draws))
                yield batches

    def _in_turn(self) -> Iterable[Tensor]:
        return torch.arange(self._blocks.count(len(self.labels))).tensor_split(self._blocks.pools)

    def _read_ahead(self, row_pools: Iterable[Tensor]) -> Generator[Pool, None, None]:
        """Pools in turn; while one is in use, a thread reads the next into the other of two buffers."""
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
        places = torch.full((self._blocks.count(len(self.labels)),), -1)
        places[pool] = self._blocks.rows * torch.arange(len(pool))  # only the split's last block can be a short one
        features = buffer[: len(rows)]
        if self.device.type == "cpu":
            read(rows.numpy(), features.numpy())
        else:  # the pool as a whole: one transfer
            read_in = torch.empty(features.shape, dtype=features.dtype)
            read(rows.numpy(), read_in.numpy())
            features.copy_(read_in)
        return Pool(features, places, places.to(self.device), self._blocks.rows)
