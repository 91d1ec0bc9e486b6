"""The seam: what training and evaluation ask of inputs, whatever x is: images or features."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.compute.staging import Staging
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped


class Request(NamedTuple):
    """A batch that is wanted; its tensors lie on the CPU, or all on the device.

    Attributes:
        rows: int64 [B].
        views: int64 [B], the view of each.
        global_batch_size: rows of the batch over all processes that share it.
        needs_x: False where D alone looks at them: x may then stay away where z comes.
        draws: whatever else was drawn for these rows, [B, *] each.
    """

    rows: Tensor
    views: Tensor
    global_batch_size: int
    needs_x: bool = True
    draws: tuple[Tensor, ...] = ()


class Batch(NamedTuple):
    """A batch as it came; its tensors lie on the device.

    Attributes:
        x: features float32 [B, F], regions float32 [B, S, F] or images uint8 [B, 3, side, side].
        y: labels float32 [B, L]: 1, 0, or -1 where unknown.
        rows: int64 [B]: which rows these are.
        global_batch_size: rows of the batch over all processes that share it; B where there is one.
        z: D's view of them, [B, F]; None where it is to be made of x by the frozen encoder. With it x is empty [0] if
            nobody needs it.
        draws: the request's.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    global_batch_size: int
    z: Tensor | None = None
    draws: tuple[Tensor, ...] = ()


class Blocks(NamedTuple):
    """How rows lie that do not fit in memory together: training draws from one pool of blocks after the other.

    Attributes:
        rows: consecutive rows a block; the last one may have fewer.
        pools: into how many pools an epoch shares the blocks out; their sizes differ by one block at most.
    """

    rows: int
    pools: int

    @property
    def description(self) -> str:
        """In words."""
        return f"{self.pools} pools of blocks of {self.rows} rows"

    def count(self, n: int) -> int:
        """The blocks of n rows."""
        return -(-n // self.rows)

    def largest(self, n: int) -> int:
        """The rows of the largest pool, at most."""
        return -(-self.count(n) // self.pools) * self.rows

    def rows_of(self, pool: Tensor, n: int) -> Tensor:
        """The rows, ascending, of a pool's blocks, ascending, of n rows."""
        rows = (pool[:, None] * self.rows + torch.arange(self.rows)).flatten()
        return rows[rows < n]


class Inputs(Protocol):
    """The usable rows of a split, as training and evaluation see them.

    Attributes:
        paths: N row names.
        labels: int8 [N, L], on the CPU.
        device_labels: the same on the device.
        encoder: the frozen f_ext: the identity over features, a CNN over images.
        feature_dim: F, the width of what the encoder gives (of each region, where it gives several).
        n_views: views that may be asked for.
        space: the labels.
        skipped: the split's other rows.
        device: where batches are put.
        batch: rows that pass a network together in evaluation.
        blocks: where rows cannot be had in any order; None where they can.
    """

    batch: int
    paths: Sequence[str]
    labels: Tensor
    device_labels: Tensor
    encoder: nn.Module
    feature_dim: int
    n_views: int
    space: LabelSpace
    skipped: tuple[Skipped, ...]
    device: torch.device
    blocks: Blocks | None

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[list[Batch], None, None]:
        """Give the batches that are asked for, in that order; images are decoded, pools read ahead.

        Args:
            updates: the batches that each of them takes; their tensors travel to the device together.
            pools: blocks int64, ascending, that the rows will come from, one pool after the other; None for all blocks
                in order. Only inputs that have blocks look at them.
        """


def requests_in_order(inputs: Inputs, world: World = ALONE) -> Iterator[Request]:
    """All rows once, in order, through the test transform (view 0); of several processes, each gets its own batches.

    The batches are the same for any number of processes.
    """
    n = len(inputs.labels)
    starts = range(0, n, inputs.batch)[world.share(-(-n // inputs.batch))]
    for start in starts:
        rows = torch.arange(start, min(start + inputs.batch, n))
        yield Request(rows, torch.zeros_like(rows), len(rows))


def in_order(inputs: Inputs, world: World = ALONE) -> Generator[Batch, None, None]:
    """The batches of `requests_in_order`."""
    with closing(inputs.stream([request] for request in requests_in_order(inputs, world))) as batches:
        for (batch,) in batches:
            yield batch


def staged(update: Sequence[Request], staging: Staging) -> list[Request]:
    """The requests of an update on the device: rows, views and draws of all of them in one copy."""
    there = iter(staging([tensor for one in update for tensor in (one.rows, one.views, *one.draws)]))
    return [
        one._replace(rows=next(there), views=next(there), draws=tuple(islice(there, len(one.draws)))) for one in update
    ]


def evaluation_batch(shape: tuple[int, ...]) -> int:
    """Rows that pass a network together in evaluation, by the shape of one view's features."""
    # Attention over regions holds several arrays [B, paths, S, width] at a time.
    return 1024 if len(shape) == 1 else 128
