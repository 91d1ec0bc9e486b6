"""The seam: images or cached features -> the same Inputs. Training does not know which of them x is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.config import ExtractConfig
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped, Split
from labeldep_cli.distributed import ALONE, World
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import CacheRows, FeatureCache
from labeldep_cli.features.decode import Decoded, Item, decode
from labeldep_cli.features.images import Reason
from labeldep_cli.models.encoder import pooled
from labeldep_cli.staging import Staging


class Request(NamedTuple):
    """A batch that is wanted; its tensors lie on the CPU, or all on the device.

    Attributes:
        rows: int64 [B].
        views: int64 [B], the view of each.
        whole: rows of the batch over all processes that share it.
        needs_x: False where D alone looks at them: x may then stay away where z comes.
        draws: whatever else was drawn for these rows, [B, *] each.
    """

    rows: Tensor
    views: Tensor
    whole: int
    needs_x: bool = True
    draws: tuple[Tensor, ...] = ()


class Batch(NamedTuple):
    """A batch as it came; its tensors lie on the device.

    Attributes:
        x: features float32 [B, F], regions float32 [B, S, F] or images uint8 [B, 3, side, side].
        y: labels float32 [B, L]: 1, 0, or -1 where unknown.
        rows: int64 [B]: which rows these are.
        whole: rows of the batch over all processes that share it; B where there is one.
        z: D's view of them, [B, F]; None where it is to be made of x by the frozen encoder. With it x is empty [0] if
            nobody needs it.
        draws: the request's.
    """

    x: Tensor
    y: Tensor
    rows: Tensor
    whole: int
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
    def told(self) -> str:
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


class FeatureInputs:
    """Inputs over features held in memory, on the device.

    Args:
        features: [N, V, F], or [N, V, S, F] for regions; float16 or float32.
        labels: int8 [N, L].
        paths: N row names.
        space: the labels.
        skipped: rows of the split that are not among these.
        device: where features and batches are put.
        rows: int64 [N], where a split's rows lie among `features`; None where these are the split's alone.
    """

    blocks: Blocks | None = None

    def __init__(
        self,
        features: NDArray[np.float16] | NDArray[np.float32],
        labels: NDArray[np.int8],
        paths: Sequence[str],
        space: LabelSpace,
        skipped: tuple[Skipped, ...],
        device: torch.device,
        rows: NDArray[np.int64] | None = None,
    ) -> None:
        self.features = torch.from_numpy(features).to(device)
        self._rows = None if rows is None else torch.from_numpy(rows).to(device)
        self.labels = torch.from_numpy(labels)
        self.device_labels = self.labels.to(device)
        self.paths = paths
        self.space = space
        self.skipped = skipped
        self.device = device
        self.encoder: nn.Module = nn.Identity()
        self.n_views, self.feature_dim = features.shape[1], features.shape[-1]
        self.batch = evaluation_batch(features.shape[2:])
        self._staging = Staging(device)

    @staticmethod
    def of_cache(cache: FeatureCache, views: int, named: bool, device: torch.device) -> FeatureInputs:
        """The usable rows of a cache, with its first `views` views; `named`: the data set is a row of DATASETS."""
        usable = cache.usable
        return FeatureInputs(
            cache.features(views),
            cache.labels[usable],
            [cache.paths[row] for row in usable],
            cache.space,
            cache.skipped(named),
            device,
        )

    @staticmethod
    def of_split(split: Split, device: torch.device) -> FeatureInputs:
        """A split that brings its own features."""
        if split.features is None:
            raise ValueError("this split brings no features")
        features = split.features[:, None, :]
        return FeatureInputs(features, split.labels, split.paths, split.space, (), device, split.rows)

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[list[Batch], None, None]:
        """Look rows up by index, on the device."""
        for update in updates:
            yield [self._batch(request) for request in staged(update, self._staging)]

    def _batch(self, request: Request) -> Batch:
        rows, views, whole, _, draws = request
        dtype = torch.get_default_dtype()
        x = self.features[rows if self._rows is None else self._rows[rows], views].to(dtype)
        return Batch(x, self.device_labels[rows].to(dtype), rows, whole, draws=draws)


class ImageInputs:
    """Inputs over images, decoded in workers.

    Args:
        split: the rows.
        usable: int64 [N], which of them can be read.
        skipped: the others.
        encoder: frozen, on the device.
        feature_dim: F.
        side: pixels a side that the encoder sees.
        n_views: views that training may draw from.
        workers: decoding processes.
        device: where batches are put.
        draft: decode JPEGs at reduced scale.
    """

    batch = ExtractConfig.group
    blocks: Blocks | None = None

    def __init__(
        self,
        split: Split,
        usable: NDArray[np.int64],
        skipped: tuple[Skipped, ...],
        encoder: nn.Module,
        feature_dim: int,
        side: int,
        n_views: int,
        workers: int,
        device: torch.device,
        draft: bool,
    ) -> None:
        kept = split if len(usable) == len(split) else split.subset(split.name, usable)
        self.paths: Sequence[str] = kept.paths
        self.labels = torch.from_numpy(kept.labels)
        self.device_labels = self.labels.to(device)
        self.space = kept.space
        self.skipped = skipped
        self.encoder: nn.Module = encoder
        self.feature_dim = feature_dim
        self.n_views = n_views
        self.device = device
        self._file: Callable[[int], ImageFile] = kept.file
        self._side = side
        self._workers = workers
        self._draft = draft
        self._cached: CacheRows | None = None
        self._staging = Staging(device)

    def read_z_from(self, cache: FeatureCache) -> None:
        """Have z read from a finished cache of the same split and encoder, with all views that are asked for."""
        self._cached = cache.rows()

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[list[Batch], None, None]:
        """Decode the images asked for; with a cache to read z from, only those that x is needed of.

        Raises:
            DatasetError: an image that could be read when the run began no longer can.
            CacheError: the cache cannot be read, or holds features that are not finite.
        """
        pending: deque[Sequence[Request]] = deque()

        def items() -> Iterator[list[Item[int]]]:
            for update in updates:
                pending.append(update)
                for request in filter(self._is_decoded, update):
                    yield [(int(row), (int(view),)) for row, view in zip(request.rows, request.views, strict=True)]

        on_gpu = self.device.type == "cuda"
        decoded: deque[Decoded] = deque()
        # Batches without images do not pass the workers: these take turns, and one would get most of the images.
        for images in decode(self._file, items(), self._side, self._workers, on_gpu, self._draft):
            decoded.append(images)
            while pending and len(decoded) >= sum(map(self._is_decoded, pending[0])):
                yield self._batches(pending.popleft(), decoded)
        for update in pending:
            yield self._batches(update, decoded)

    def _is_decoded(self, request: Request) -> bool:
        return len(request.rows) > 0 and (request.needs_x or self._cached is None)

    def _batches(self, update: Sequence[Request], decoded: deque[Decoded]) -> list[Batch]:
        """The batches of an update, of which those with images take the first ones of `decoded`."""
        dtype = torch.get_default_dtype()
        batches = []
        for request, (rows, _, whole, _, draws) in zip(update, staged(update, self._staging), strict=True):
            x = self._images(request, decoded.popleft()) if self._is_decoded(request) else torch.empty(0)
            y = self.device_labels[rows].to(dtype)
            batches.append(Batch(x.to(self.device, non_blocking=True), y, rows, whole, self._stored_z(request), draws))
        return batches

    def _images(self, request: Request, decoded: Decoded) -> Tensor:
        if decoded.reasons.any():
            k = int(decoded.reasons.argmax())
            raise DatasetError(
                f"{self._file(int(request.rows[k]))}: {Reason(int(decoded.reasons[k])).text}, though it could be read "
                "when the run began",
                "Put the image back and run the same command again: it goes on from the last evaluation.",
            )
        return decoded.images[:, 0]

    def _stored_z(self, request: Request) -> Tensor | None:
        if self._cached is None:
            return None
        features = self._cached.read(request.rows.numpy(), request.views.numpy())
        (there,) = self._staging([torch.from_numpy(features)])
        return pooled(there.to(torch.get_default_dtype()))
