"""Random draws keyed by (seed, purpose, step).

Every draw has its own random generator. So the draws of step 1000 do not depend on whether the run was interrupted.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, count
from typing import NamedTuple

import torch
from torch import Tensor

from labeldep_cli.config import TrainingConfig
from labeldep_cli.features.views import N_DRAWS, N_VIEWS, view_of_draw
from labeldep_cli.inputs.batches import Blocks, Inputs


def keyed(seed: int, purpose: str, step: int) -> torch.Generator:
    """A random generator on the CPU for one purpose at one step."""
    digest = hashlib.blake2b(f"{seed} {purpose} {step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def uniform(shape: tuple[int, ...], seed: int, purpose: str, step: int) -> Tensor:
    """Uniform float32 noise on [0, 1)."""
    return torch.rand(shape, generator=keyed(seed, purpose, step))


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=keyed(seed, "order", epoch))


def epoch_rows(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """G's rows at a step: each epoch is a permutation of 0..n-1, cut into ceil(n / batch_size) batches.

    Returns:
        int64 [B]; the last batch of an epoch may be smaller.
    """
    epoch, batch = divmod(step, -(-n // batch_size))
    return _order(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]


def random_rows(n: int, batch_size: int, seed: int, purpose: str, step: int) -> Tensor:
    """Rows drawn with replacement, for the critic's batches (Sect. 4.1 samples three for each critic step).

    Returns:
        int64 [min(n, batch_size)].
    """
    return torch.randint(n, (min(n, batch_size),), generator=keyed(seed, purpose, step))


class _Epoch(NamedTuple):
    """One epoch over blocks.

    Attributes:
        pools: the block numbers of each pool, int64, ascending.
        rows: all rows, int64 [n], shuffled within each pool, pool by pool.
        ends: where in `rows` each pool ends.
    """

    pools: tuple[Tensor, ...]
    rows: Tensor
    ends: tuple[int, ...]


@lru_cache(maxsize=2)
def _epoch(n: int, blocks: Blocks, seed: int, epoch: int) -> _Epoch:
    order = torch.randperm(blocks.count(n), generator=keyed(seed, "blocks", epoch))
    pools = tuple(pool.sort().values for pool in order.tensor_split(blocks.pools))
    generator = keyed(seed, "pools", epoch)
    pool_rows = [blocks.rows_of(pool, n) for pool in pools]
    shuffled = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for rows in pool_rows])
    return _Epoch(pools, shuffled, tuple(accumulate(len(rows) for rows in pool_rows)))


@dataclass(frozen=True)
class Order:
    """The rows of the batches at each step of G: a pure function of the step.

    Without blocks, an epoch of G is a permutation of all rows, and D's batches are drawn from all rows. With blocks, an
    epoch permutes the blocks, distributes them over pools and shuffles the rows within each pool. G's batches are cut
    from that sequence, and one batch may span two pools. D's batches are drawn from the current pool: the pool of the
    first row of G's batch.

    Attributes:
        n: number of training rows.
        batch_size: rows per batch.
        seed: seed of the run.
        blocks: the blocks of rows; None if all rows are in memory.
    """

    n: int
    batch_size: int
    seed: int
    blocks: Blocks | None = None

    @staticmethod
    def of(inputs: Inputs, config: TrainingConfig) -> Order:
        """The order of a run's training rows."""
        return Order(len(inputs.labels), config.rows_per_batch, config.seed, inputs.blocks)

    def generator_rows(self, step: int) -> Tensor:
        """G's rows at a step, int64 [B]; an epoch has ceil(n / batch_size) batches, and the last may be smaller."""
        if self.blocks is None:
            return epoch_rows(self.n, self.batch_size, self.seed, step)
        number, start = self._position(step)
        return _epoch(self.n, self.blocks, self.seed, number).rows[start : start + self.batch_size]

    def critic_rows(self, step: int, purpose: str, key: int) -> Tensor:
        """D's rows at a step of G, drawn with replacement by (purpose, key): int64 [min(n, batch_size)]."""
        if self.blocks is None:
            return random_rows(self.n, self.batch_size, self.seed, purpose, key)
        number, start = self._position(step)
        epoch = _epoch(self.n, self.blocks, self.seed, number)
        pool = bisect_right(epoch.ends, start)
        first, end = (0, *epoch.ends)[pool], epoch.ends[pool]
        size = (min(self.n, self.batch_size),)
        return epoch.rows[torch.randint(first, end, size, generator=keyed(self.seed, purpose, key))]

    def pools(self, step: int) -> Iterator[Tensor]:
        """The blocks of the current pool at a step, then of all later pools without end; nothing without blocks."""
        if self.blocks is None:
            return
        number, start = self._position(step)
        first_pool = bisect_right(_epoch(self.n, self.blocks, self.seed, number).ends, start)
        for epoch in count(number):
            yield from _epoch(self.n, self.blocks, self.seed, epoch).pools[first_pool:]
            first_pool = 0

    def _position(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the position in the epoch at which G's batch begins."""
        epoch, batch = divmod(step, -(-self.n // self.batch_size))
        return epoch, batch * self.batch_size


def random_views(count: int, n_views: int, seed: int, purpose: str, step: int) -> Tensor:
    """Draw one view per row.

    With all N_VIEWS crops they are drawn as in the paper: one of five sizes, one of five positions. With fewer views
    they are drawn uniformly; with one view it is view 0.

    Returns:
        int64 [count].
    """
    if n_views == 1:
        return torch.zeros(count, dtype=torch.int64)
    if n_views != N_VIEWS:
        return torch.randint(n_views, (count,), generator=keyed(seed, purpose, step))
    views: Tensor = view_of_draw(torch.randint(N_DRAWS, (count,), generator=keyed(seed, purpose, step)))
    return views


def mismatched_rows(labels: Tensor, rows: Tensor, seed: int, purpose: str, step: int) -> Tensor:
    """Draw other rows, whose label sets y' are paired with the images of `rows`.

    A y' equal to the y of the image would be a real pair labelled as a negative. It is drawn again, at most 10 times.

    Args:
        labels: int8 [N, L] of all training rows.
        rows: int64 [B].
        seed, purpose, step: the key of the draw.

    Returns:
        int64 [B].
    """
    generator = keyed(seed, purpose, step)
    others = torch.randint(len(labels), rows.shape, generator=generator)
    y = labels[rows]
    for _ in range(10):
        # The comparison follows the critic's input: a label that is unknown for the image is left out of both sets, and
        # a label that is unknown in y' counts as absent.
        equal = ((labels[others].clamp(min=0) == y) | (y < 0)).all(dim=1)
        if not equal.any():
            break
        others = torch.where(equal, torch.randint(len(labels), rows.shape, generator=generator), others)
    return others
