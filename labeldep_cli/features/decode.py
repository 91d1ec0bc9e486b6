"""Decoding images in worker processes, in order."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labeldep_cli.compute.interruption import leave_to_parent
from labeldep_cli.datasets.image_file import FileState, ImageFile, state_of
from labeldep_cli.errors import StorageError
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.images import UnreadableImage, decode_image, read_content
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.views import cut
from labeldep_cli.progress import Bar

_SCANNED = 32

AHEAD = 2
"""Number of batches that a worker is given in advance."""

Row = TypeVar("Row")
"""What identifies an image for the caller of `decode`: a row number, or a path."""

Item = tuple[Row, tuple[int, ...]]
"""A row and its requested views."""


class Identity(NamedTuple):
    """The identity of an image: the state of its file just before it was read, and the SHA-256 of what was read."""

    state: FileState
    sha256: bytes


@dataclass(frozen=True)
class Decoded:
    """One batch of decoded images.

    Attributes:
        images: uint8 [B, V, 3, side, side]. An image that could not be read is all zero, so that it changes neither the
            shape of the batch nor the positions of the others. Empty [0] if none could be read. In memory, the images
            of a view are contiguous and channels last, so that a view is copied to a GPU without rearranging it.
        reasons: int [B]; 0 for a good image, else a `Reason`.
        identities: one for each image; None if not requested, or if the bytes could not be read.
    """

    images: Tensor
    reasons: Tensor
    identities: tuple[Identity | None, ...] = ()

    def pin_memory(self) -> Decoded:
        """A copy in page-locked memory; `DataLoader` calls this."""
        return Decoded(self.images.pin_memory(), self.reasons, self.identities)


ReadImage = tuple[NDArray[np.uint8] | None, int, Identity | None]
"""The views of an image, None if it cannot be used; its `Reason` or 0; and its identity."""

Made = TypeVar("Made")
"""What becomes of a batch of items."""


class Images(Dataset[ReadImage], Generic[Row]):
    """Reads and decodes an item in a worker; the arguments are those of `decode`."""

    def __init__(
        self, file: Callable[[Row], ImageFile], framing: Framing, rules: PixelRules, draft: bool, identify: bool
    ) -> None:
        self.file = file
        self.rules = rules
        self.framing = framing
        self.draft = draft
        self.identify = identify

    def __getitem__(self, item: Item[Row]) -> ReadImage:
        """Its views, or the reason why there are none."""
        row, views = item
        file = self.file(row)
        identity = None
        try:
            state = state_of(file) if self.identify else None
            content = read_content(file)
            if state is not None:
                identity = Identity(state, sha256(content).digest())
            return self._views(content, file, views), 0, identity
        except UnreadableImage as unreadable:
            return None, int(unreadable.reason), identity

    def _views(self, content: bytes, file: ImageFile, views: tuple[int, ...]) -> NDArray[np.uint8]:
        if not self.draft:
            return self._cut(decode_image(content, file, self.rules), views)
        # View 0 is scaled to the side, the crops are cut from a larger square. Decoding them apart keeps the pixels of
        # a view independent of which other views are requested.
        test, crops = (tuple(view for view in views if (view == 0) == is_test) for is_test in (True, False))
        parts = [(test, self.framing), (crops, self.framing.for_crops)]
        return np.concatenate(
            [
                self._cut(decode_image(content, file, self.rules, framing.scaled_side), part)
                for part, framing in parts
                if part
            ]
        )

    def _cut(self, image: Image.Image, views: tuple[int, ...]) -> NDArray[np.uint8]:
        return cut(image, views, self.framing, self.rules.colour)


def collated(items: list[ReadImage]) -> Decoded:
    """A batch of items."""
    reasons = torch.tensor([reason for _, reason, _ in items], dtype=torch.int64)
    identities = tuple(identity for _, _, identity in items)
    good = next((image for image, _, _ in items if image is not None), None)
    if good is None:
        return Decoded(torch.zeros(0, dtype=torch.uint8), reasons, identities)
    views, channels, height, width = good.shape
    images = torch.empty(views, len(items), height, width, channels, dtype=torch.uint8).permute(1, 0, 4, 2, 3)
    for k, (image, _, _) in enumerate(items):
        images[k] = 0 if image is None else torch.from_numpy(image)
    return Decoded(images, reasons, identities)


def decode_here(
    file: Callable[[Row], ImageFile],
    batch: Sequence[Item[Row]],
    framing: Framing,
    rules: PixelRules,
    draft: bool = False,
) -> Decoded:
    """Decode one batch in this process, immediately; the arguments are those of `decode`."""
    images = Images(file, framing, rules, draft, identify=False)
    return collated([images[item] for item in batch])


def decode(
    file: Callable[[Row], ImageFile],
    batches: Iterable[Sequence[Item[Row]]],
    framing: Framing,
    rules: PixelRules,
    workers: int,
    pin: bool = False,
    draft: bool = False,
    identify: bool = False,
    ahead: int = AHEAD,
) -> Iterator[Decoded]:
    """Decode batches of images, ahead of their use and in the given order.

    Args:
        file: gives the image file of a row; sent to the workers, so it must be picklable.
        batches: the rows and views of each batch; all items of a batch have the same number of views. May be endless.
            It is read ahead: `ahead` batches for each worker, and one more before a finished batch is yielded.
        framing: how an image becomes a square.
        rules: how pixels become 8-bit RGB.
        workers: number of processes; 0 decodes in this one.
        pin: put batches into page-locked memory, for a GPU.
        draft: decode JPEGs at the smallest scale that is at least as large as needed.
        identify: also return the `Identity` of each image.
        ahead: number of batches that a worker is given in advance.

    Yields:
        One `Decoded` for each batch. An unreadable image has a reason and zero pixels there; it raises no error.

    Raises:
        StorageError: a decoding process was killed, which happens when memory runs out.
    """
    return in_workers(Images(file, framing, rules, draft, identify), collated, batches, workers, pin, ahead)


def in_workers(
    items: Dataset[Any],
    collate: Callable[[list[Any]], Made],
    batches: Iterable[Sequence[Item[Row]]],
    workers: int,
    pin: bool,
    ahead: int,
) -> Iterator[Made]:
    """Make batches of items in worker processes, ahead of their use and in order; arguments as those of `decode`.

    Raises:
        StorageError: a worker was killed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on the number of workers: the user chooses it
        loader = DataLoader(
            items,
            batch_sampler=_BatchSampler(batches),
            num_workers=workers,
            prefetch_factor=ahead if workers else None,
            collate_fn=collate,
            pin_memory=pin,
            worker_init_fn=leave_to_parent,
            # Forked workers end when their parent is killed, and do not import torch again. The default of Python 3.14
            # on Linux, a fork server, gives neither. Other platforms keep their default.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
        )
    try:
        yield from loader
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error) and "killed by signal" not in str(error):
            raise
        raise StorageError(
            "a decoding process was killed, which happens where memory or shared memory (/dev/shm) runs out",
            "Run the same command again with fewer of them (--workers 1), or with none (--workers 0).",
        ) from error


class _BatchSampler(Generic[Row]):
    """A batch sampler over any iterable, which may be endless; the loader iterates it once."""

    def __init__(self, batches: Iterable[Sequence[Item[Row]]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Item[Row]]]:
        return (list(batch) for batch in self.batches)


def identify(files: Sequence[ImageFile], workers: int, bar: Bar) -> list[Identity | None]:
    """Read images to get their identities, without decoding them; None for an image that cannot be read."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:  # reading and hashing release the GIL
        identities = []
        for identity in pool.map(_identity, files):
            identities.append(identity)
            bar.advance()
    return identities


def _identity(file: ImageFile) -> Identity | None:
    state = state_of(file)
    try:
        return None if state is None else Identity(state, sha256(read_content(file)).digest())
    except UnreadableImage:
        return None


def unreadable(
    file: Callable[[int], ImageFile], n: int, rules: PixelRules, workers: int, bar: Bar
) -> NDArray[np.uint8]:
    """Decode every image once, to find those that cannot be decoded.

    Returns:
        uint8 [N]: 0 for a good image, else a `Reason`.
    """
    starts = range(0, n, _SCANNED)
    batches = ([(row, (0,)) for row in range(start, min(start + _SCANNED, n))] for start in starts)
    reasons = [np.zeros(0, dtype=np.uint8)]
    for decoded in decode(file, batches, framing=Framing(8), rules=rules, workers=workers):
        reasons.append(decoded.reasons.numpy().astype(np.uint8))
        bar.advance(len(reasons[-1]))
    return np.concatenate(reasons)
