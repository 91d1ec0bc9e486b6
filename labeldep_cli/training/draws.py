"""Random draws keyed by (seed, purpose, step).

No draw is taken from a running generator: what step 1000 draws does not depend on whether the run was interrupted.
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
    """A CPU generator that belongs to one purpose at one step."""
    digest = hashlib.blake2b(f"{seed} {purpose} {step}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))


def uniform(shape: tuple[int, ...], seed: int, purpose: str, step: int) -> Tensor:
    """Uniform float32 noise on [0, 1)."""
    return torch.rand(shape, generator=keyed(seed, purpose, step))


@lru_cache(maxsize=2)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=keyed(seed, "order", epoch))


def epoch_rows(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """The generator's rows at a step: epochs are permutations of 0..n-1, cut into ceil(n / batch_size) batches.

    Returns:
        int64 [B]; the last batch of an epoch may be smaller.
    """
    epoch, batch = divmod(step, -(-n // batch_size))
    return _order(n, seed, epoch)[batch * batch_size : (batch + 1) * batch_size]


def random_rows(n: int, batch_size: int, seed: int, purpose: str, step: int) -> Tensor:
    """Rows drawn with replacement: the critic's batches (Sect. 4.1 samples three for each of its steps).

    Returns:
        int64 [min(n, batch_size)].
    """
    return torch.randint(n, (min(n, batch_size),), generator=keyed(seed, purpose, step))


class _Epoch(NamedTuple):
    """One epoch over blocks: those of each pool, ascending; all rows, pool by pool; where each pool ends among them."""

    pools: tuple[Tensor, ...]
    rows: Tensor
    ends: tuple[int, ...]


@lru_cache(maxsize=2)
def _epoch(n: int, blocks: Blocks, seed: int, epoch: int) -> _Epoch:
    order = torch.randperm(blocks.count(n), generator=keyed(seed, "blocks", epoch))
    pools = tuple(pool.sort().values for pool in order.tensor_split(blocks.pools))
    generator = keyed(seed, "pools", epoch)
    held = [blocks.rows_of(pool, n) for pool in pools]
    shuffled = torch.cat([rows[torch.randperm(len(rows), generator=generator)] for rows in held])
    return _Epoch(pools, shuffled, tuple(accumulate(len(rows) for rows in held)))


@dataclass(frozen=True)
class Order:
    """Which rows the networks see at each step of G: a pure function of the step.

    Where the rows have no blocks, G's epochs are permutations of all rows, and D's batches are drawn from all. Where
    they have, an epoch permutes the blocks, shares them out over pools and shuffles the rows within each pool; G's
    batches are cut from that sequence (one may straddle two pools), and D's are drawn from the pool in use: the one
    that holds the first row of G's batch.

    Attributes:
        n: training rows.
        batch_size: rows a batch.
        seed: of the run.
        blocks: of the rows; None where all lie in memory.
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
        """G's rows at a step, int64 [B]; an epoch has ceil(n / batch_size) batches, whose last may be smaller."""
        if self.blocks is None:
            return epoch_rows(self.n, self.batch_size, self.seed, step)
        number, start = self._position(step)
        return _epoch(self.n, self.blocks, self.seed, number).rows[start : start + self.batch_size]

    def critic_rows(self, step: int, purpose: str, key: int) -> Tensor:
        """D's rows for its update `key` at a step of G, drawn with replacement: int64 [min(n, batch_size)]."""
        if self.blocks is None:
            return random_rows(self.n, self.batch_size, self.seed, purpose, key)
        number, start = self._position(step)
        epoch = _epoch(self.n, self.blocks, self.seed, number)
        pool = bisect_right(epoch.ends, start)
        first, end = (0, *epoch.ends)[pool], epoch.ends[pool]
        size = (min(self.n, self.batch_size),)
        return epoch.rows[torch.randint(first, end, size, generator=keyed(self.seed, purpose, key))]

    def pools(self, step: int) -> Iterator[Tensor]:
        """The blocks of the pool in use at a step, then of those that follow, endlessly; nothing without blocks."""
        if self.blocks is None:
            return
        number, start = self._position(step)
        begun = bisect_right(_epoch(self.n, self.blocks, self.seed, number).ends, start)
        for later in count(number):
            yield from _epoch(self.n, self.blocks, self.seed, later).pools[begun:]
            begun = 0

    def _position(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and where in it G's batch begins."""
        epoch, batch = divmod(step, -(-self.n // self.batch_size))
        return epoch, batch * self.batch_size


def random_views(count: int, n_views: int, seed: int, purpose: str, step: int) -> Tensor:
    """One view a row: of all crops as the paper draws them (one of five sizes, one of five positions), or view 0.

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
    """Rows whose label sets y' are put to the images of `rows`.

    A y' equal to the image's own y would be a real pair called false: it is drawn again, at most 10 times.

    Args:
        labels: int8 [N, L] of all training rows.
        rows: int64 [B].

    Returns:
        int64 [B].
    """
    generator = keyed(seed, purpose, step)
    others = torch.randint(len(labels), rows.shape, generator=generator)
    own = labels[rows]
    for _ in range(10):
        # As the critic sees them: an unknown label of the image is left out of both sets, one of y' counts as absent.
        equal = ((labels[others].clamp(min=0) == own) | (own < 0)).all(dim=1)
        if not equal.any():
            break
        others = torch.where(equal, torch.randint(len(labels), rows.shape, generator=generator), others)
    return others
