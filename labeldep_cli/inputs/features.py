"""Inputs over features held in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.compute.staging import Staging
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Skipped, Split
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.inputs.batches import Batch, Blocks, Request, evaluation_batch, staged


class FeatureInputs:
    """Inputs over features held in memory, on the device.

    Args:
        features: [N, V, F], or [N, V, S, F] for regions; float16 or float32.
        labels: int8 [N, L].
        paths: N row names.
        space: the labels.
        skipped: rows of the split that are left out here.
        device: the device of features and batches.
        rows: int64 [N], the position of each row in `features`, which then also has rows of other splits; None if
            `features` has exactly the N rows.
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
        """The usable rows of a cache, with its first `views` views.

        Args:
            cache: a finished cache.
            views: number of views.
            named: whether the data set is a row of DATASETS.
            device: the device of features and batches.
        """
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
        """Inputs over a split that comes with ready features.

        Raises:
            ValueError: the split has no features.
        """
        if split.features is None:
            raise ValueError("this split has no features")
        features = split.features[:, None, :]
        return FeatureInputs(features, split.labels, split.paths, split.space, (), device, split.rows)

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[list[Batch], None, None]:
        """Look rows up by index, on the device."""
        for update in updates:
            yield [self.look_up(request) for request in staged(update, self._staging)]

    def look_up(self, request: Request) -> Batch:
        """The batch of a request whose tensors are on the device; it only launches kernels."""
        rows, views, global_batch_size, _, draws = request
        dtype = torch.get_default_dtype()
        x = self.features[rows if self._rows is None else self._rows[rows], views].to(dtype)
        return Batch(x, self.device_labels[rows].to(dtype), rows, global_batch_size, draws=draws)
