"""The interface of inputs that training and evaluation use, the same for images and for features."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped


class Request(NamedTuple):
    """A request for a batch; its tensors lie all on the CPU or all on the device.

    Attributes:
        rows: int64 [B].
        views: int64 [B], the view of each row.
        global_batch_size: rows of the batch over all processes that share it.
        needs_x: False if only D uses the batch: then x may be left out if z is given.
        draws: other random draws for these rows, [B, *] each.
    """

    rows: Tensor
    views: Tensor
    global_batch_size: int
    needs_x: bool = True
    draws: tuple[Tensor, ...] = ()


class Batch(NamedTuple):
    """The data of a request; its tensors lie on the device.

    Attributes:
        x: features float32 [B, F], regions float32 [B, S, F] or images uint8 [B, 3, side, side].
        y: labels float32 [B, L]: 1, 0, or -1 where unknown.
        rows: int64 [B], the row numbers.
        global_batch_size: rows of the batch over all processes that share it; B for a single process.
        z: image features for D, [B, F]; None if the frozen encoder must compute them from x. If z is given and the
            request does not need x, x is empty [0].
        draws: the draws of the request.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    global_batch_size: int
    z: Tensor | None = None
    draws: tuple[Tensor, ...] = ()


class Blocks(NamedTuple):
    """The layout of rows that do not all fit in memory: training draws from one pool of blocks after the other.

    Attributes:
        rows: consecutive rows per block; the last block may have fewer.
        pools: number of pools that share the blocks in an epoch; their sizes differ by at most one block.
    """

    rows: int
    pools: int

    @property
    def description(self) -> str:
        """The layout in words."""
        return f"{self.pools} pools of blocks of {self.rows} rows"

    def count(self, n: int) -> int:
        """Number of blocks of n rows."""
        return -(-n // self.rows)

    def largest(self, n: int) -> int:
        """Upper bound on the rows of a pool, out of n rows."""
        return -(-self.count(n) // self.pools) * self.rows

    def rows_of(self, pool: Tensor, n: int) -> Tensor:
        """The rows of a pool, ascending; `pool` has its block numbers, ascending, out of n rows."""
        rows = (pool[:, None] * self.rows + torch.arange(self.rows)).flatten()
        return rows[rows < n]


Made = TypeVar("Made", covariant=True)
"""What is made of the requests of an update."""


class Stream(Protocol[Made]):
    """Makes of requests what a step takes: batches, for most steps."""

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[Made, None, None]:
        """What is made of each update, in order; for the arguments, see `Inputs.stream`."""


class Inputs(Stream[list[Batch]], Protocol):
    """The usable rows of a split, for training and evaluation.

    Attributes:
        paths: N row names.
        labels: int8 [N, L], on the CPU.
        device_labels: the same labels on the device.
        encoder: the frozen f_ext: the identity for features, a CNN for images.
        feature_dim: F, the width of the encoder's output (of each region, if it gives several).
        n_views: number of views that can be requested.
        space: the L labels.
        skipped: the rows of the split that are not usable.
        device: the device of batches.
        batch: batch size in evaluation.
        blocks: the layout of rows that can only be read block by block; None if rows can be read in any order.
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
        """Yield the requested batches, in order; images are decoded ahead, and pools are read ahead.

        Args:
            updates: the requests of each update; the tensors of an update are copied to the device together.
            pools: for each pool in order of use its block numbers, int64, ascending; None for all blocks in order.
                Used only by inputs with blocks.
        """


def requests_in_order(inputs: Inputs, world: World = ALONE) -> Iterator[Request]:
    """Requests for all rows once, in order, with the test transform (view 0); each process gets its share of them.

    The batches do not depend on the number of processes.
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


def tensors_of(update: Sequence[Request]) -> list[Tensor]:
    """Rows, views and draws of the requests of an update, in order."""
    return [tensor for request in update for tensor in (request.rows, request.views, *request.draws)]


def staged(update: Sequence[Request], staging: Callable[[Sequence[Tensor]], Sequence[Tensor]]) -> list[Request]:
    """The requests of an update on the device.

    Args:
        update: the requests, on the CPU.
        staging: gives the same tensors on the device; it is called once, so that they can travel in one copy.
    """
    tensors = iter(staging(tensors_of(update)))
    return [
        request._replace(rows=next(tensors), views=next(tensors), draws=tuple(islice(tensors, len(request.draws))))
        for request in update
    ]


def evaluation_batch(shape: tuple[int, ...]) -> int:
    """Batch size in evaluation, by the shape of the features of one view: [F], or [S, F] for regions."""
    # Attention over regions holds several arrays [B, paths, S, width] in memory at a time.
    return 1024 if len(shape) == 1 else 128
