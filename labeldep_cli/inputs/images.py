"""Inputs over images, decoded in worker processes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.compute.staging import Staging
from labeldep_cli.compute.transfer import to_device
from labeldep_cli.config import ExtractConfig, Jpegs
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.datasets.split import Skipped, Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import CacheRows, FeatureCache
from labeldep_cli.features.decode import Decoded, Item
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.reading import read_batches
from labeldep_cli.features.reasons import Reason
from labeldep_cli.inputs.batches import Batch, Blocks, Request, staged
from labeldep_cli.models.encoder import pooled


class ImageInputs:
    """Inputs over images, decoded in worker processes.

    Args:
        split: the split.
        usable: int64 [N], the rows of the split that can be read.
        skipped: the other rows.
        encoder: the frozen encoder, on the device.
        feature_dim: F.
        framing: how an image becomes the encoder's input.
        rules: how image files become 8-bit RGB.
        n_views: number of views that training can draw from.
        workers: number of decoding processes.
        device: the device of batches.
        jpegs: how JPEGs are decoded.
        note: takes notes.
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
        framing: Framing,
        rules: PixelRules,
        n_views: int,
        workers: int,
        device: torch.device,
        jpegs: Jpegs,
        note: Callable[[str], None],
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
        self._framing = framing
        self._rules = rules
        self._workers = workers
        self._jpegs: Jpegs = jpegs
        self._note = note
        self._cached: CacheRows | None = None
        self._staging = Staging(device)

    def read_z_from(self, cache: FeatureCache) -> None:
        """Read z from a finished cache of the same split and encoder, which must hold all requested views."""
        self._cached = cache.rows()

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[list[Batch], None, None]:
        """Decode the requested images; if z comes from a cache, only those of requests that need x.

        Raises:
            DatasetError: an image can no longer be read, though it could be read at the start of the run.
            CacheError: the cache cannot be read, or holds features that are not finite.
        """
        pending: deque[Sequence[Request]] = deque()

        def items() -> Iterator[list[Item[int]]]:
            for update in updates:
                pending.append(update)
                for request in filter(self._is_decoded, update):
                    yield [(int(row), (int(view),)) for row, view in zip(request.rows, request.views, strict=True)]

        how = (self._framing, self._rules, self._jpegs, self._workers, self.device, self._note)
        decoded: deque[Decoded] = deque()
        # Batches without images are not sent to the workers. Workers take batches in rotation, so one worker could get
        # most of the images.
        for images in read_batches(self._file, items(), *how):
            decoded.append(images)
            while pending and len(decoded) >= sum(map(self._is_decoded, pending[0])):
                yield self._batches(pending.popleft(), decoded)
        for update in pending:
            yield self._batches(update, decoded)

    def _is_decoded(self, request: Request) -> bool:
        return len(request.rows) > 0 and (request.needs_x or self._cached is None)

    def _batches(self, update: Sequence[Request], decoded: deque[Decoded]) -> list[Batch]:
        """The batches of an update; those with images take them from the left of `decoded`."""
        dtype = torch.get_default_dtype()
        batches = []
        for request, on_device in zip(update, staged(update, self._staging), strict=True):
            x = self._images(request, decoded.popleft()) if self._is_decoded(request) else torch.empty(0)
            x = to_device(x, self.device)
            y = self.device_labels[on_device.rows].to(dtype)
            z = self._stored_z(request)
            batches.append(Batch(x, y, on_device.rows, on_device.global_batch_size, z, on_device.draws))
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
        (on_device,) = self._staging([torch.from_numpy(features)])
        return pooled(on_device.to(torch.get_default_dtype()))
