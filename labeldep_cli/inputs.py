"""The seam: images or cached features -> the same Inputs. Training does not know which of them x is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.config import ExtractConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped, Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.decode import Item, decode
from labeldep_cli.features.images import Reason


class Request(NamedTuple):
    """A batch that is wanted: rows int64 [B] and the view of each, int64 [B]."""

    rows: Tensor
    views: Tensor


class Batch(NamedTuple):
    """A batch as it came.

    Attributes:
        x: features float32 [B, F], regions float32 [B, S, F] or images uint8 [B, 3, side, side], on the device.
        y: labels float32 [B, L]: 1, 0, or -1 where unknown; on the device.
        rows: int64 [B]: which rows these are.
    """

    x: Tensor
    y: Tensor
    rows: Tensor


class Inputs(Protocol):
    """The usable rows of a split, as training and evaluation see them.

    Attributes:
        paths: N row names.
        labels: int8 [N, L], on the CPU.
        encoder: the frozen f_ext: the identity over features, a CNN over images.
        feature_dim: F, the width of what the encoder gives (of each region, where it gives several).
        n_views: views that may be asked for.
        space: the labels.
        skipped: the split's other rows.
        device: where batches are put.
        batch: rows that pass a network together in evaluation.
    """

    batch: int
    paths: Sequence[str]
    labels: Tensor
    encoder: nn.Module
    feature_dim: int
    n_views: int
    space: LabelSpace
    skipped: tuple[Skipped, ...]
    device: torch.device

    def stream(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """Give the batches that are asked for, in that order; images are decoded ahead."""


def in_order(inputs: Inputs) -> Iterator[Batch]:
    """All rows once, in order, through the test transform (view 0)."""
    n = len(inputs.labels)
    parts = (torch.arange(start, min(start + inputs.batch, n)) for start in range(0, n, inputs.batch))
    return inputs.stream(Request(part, torch.zeros_like(part)) for part in parts)


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
        self._rows = None if rows is None else torch.from_numpy(rows)
        self.labels = torch.from_numpy(labels)
        self.paths = paths
        self.space = space
        self.skipped = skipped
        self.device = device
        self.encoder: nn.Module = nn.Identity()
        self.n_views, self.feature_dim = features.shape[1], features.shape[-1]
        # Attention over regions holds several arrays [B, paths, S, width] at a time.
        self.batch = 1024 if features.ndim == 3 else 128

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

    def stream(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """Look rows up by index, on the device."""
        for rows, views in requests:
            found = rows if self._rows is None else self._rows[rows]
            x = self.features[found.to(self.device), views.to(self.device)].float()
            yield Batch(x, self.labels[rows].to(self.device).float(), rows)


class ImageInputs:
    """Inputs over image files, decoded in workers.

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
        self.space = kept.space
        self.skipped = skipped
        self.encoder: nn.Module = encoder
        self.feature_dim = feature_dim
        self.n_views = n_views
        self.device = device
        self._file: Callable[[int], Path] = kept.file
        self._side = side
        self._workers = workers
        self._draft = draft

    def stream(self, requests: Iterable[Request]) -> Iterator[Batch]:
        """Decode the images asked for.

        Raises:
            DatasetError: an image that could be read when the run began no longer can.
        """
        pending: deque[Request] = deque()

        def items() -> Iterator[list[Item]]:
            for request in requests:
                pending.append(request)
                yield [(int(row), (int(view),)) for row, view in zip(*request, strict=True)]

        on_gpu = self.device.type == "cuda"
        for decoded in decode(self._file, items(), self._side, self._workers, on_gpu, self._draft):
            rows, _ = pending.popleft()
            if decoded.reasons.any():
                k = int(decoded.reasons.argmax())
                reason = Reason(int(decoded.reasons[k])).text
                raise DatasetError(
                    f"{self._file(int(rows[k]))}: {reason}, though it could be read when the run began",
                    "Put the image back and run the same command again: it goes on from the last evaluation.",
                )
            x = decoded.images[:, 0].to(self.device, non_blocking=True)
            yield Batch(x, self.labels[rows].to(self.device).float(), rows)
