"""Decoding images in worker processes, in order."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from labeldep_cli.compute.interruption import leave_to_parent
from labeldep_cli.datasets.image_file import FileState, ImageFile, state_of
from labeldep_cli.errors import StorageError
from labeldep_cli.features.images import UnreadableImage, decode_image, read_content
from labeldep_cli.features.views import RESIZED, cut
from labeldep_cli.progress import Bar

_SCANNED = 32

Row = TypeVar("Row")
"""What names an image to `decode`'s caller: a row's number, or a path."""

Item = tuple[Row, tuple[int, ...]]
"""A row and the views of it that are wanted."""


class Identity(NamedTuple):
    """What an image is known by: the state of its file just before it was read, and the SHA-256 of what was read."""

    state: FileState
    sha256: bytes


@dataclass(frozen=True)
class Decoded:
    """One batch of decoded images.

    Attributes:
        images: uint8 [B, V, 3, side, side]; all zero where an image could not be read, so that the others' places and
            the batch's shape do not depend on it. Empty [0] where none could. In memory a view's images lie together,
            channels last: a copy of one view to a GPU takes them as they are.
        reasons: int [B]; 0 for a good image, else a `Reason`.
        identities: of the images whose bytes could be read, where they were asked for; else None each.
    """

    images: Tensor
    reasons: Tensor
    identities: tuple[Identity | None, ...] = ()

    def pin_memory(self) -> Decoded:
        """Page-locked copies, for the loader."""
        return Decoded(self.images.pin_memory(), self.reasons, self.identities)


_Read = tuple[NDArray[np.uint8] | None, int, Identity | None]


class _Images(Dataset[_Read], Generic[Row]):
    def __init__(self, file: Callable[[Row], ImageFile], side: int, draft: bool, identify: bool) -> None:
        self.file = file
        self.side = side
        self.draft = draft
        self.identify = identify

    def __getitem__(self, item: Item[Row]) -> _Read:
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
            return cut(decode_image(content, file), views, self.side)
        # View 0 is scaled to `side` and the crops are of RESIZED: each view's pixels do not hang on which others are
        # wanted with it.
        test, crops = (tuple(view for view in views if (view == 0) == is_test) for is_test in (True, False))
        parts = [(test, self.side), (crops, RESIZED)]
        return np.concatenate(
            [cut(decode_image(content, file, least), some, self.side) for some, least in parts if some]
        )


def _together(items: list[_Read]) -> Decoded:
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
    file: Callable[[Row], ImageFile], batch: Sequence[Item[Row]], side: int, draft: bool = False
) -> Decoded:
    """Decode one batch in this process, at once; the arguments are those of `decode`."""
    images = _Images(file, side, draft, identify=False)
    return _together([images[item] for item in batch])


def decode(
    file: Callable[[Row], ImageFile],
    batches: Iterable[Sequence[Item[Row]]],
    side: int,
    workers: int,
    pin: bool = False,
    draft: bool = False,
    identify: bool = False,
) -> Iterator[Decoded]:
    """Decode batches of images, ahead of their use and in the order asked for.

    Args:
        file: where the image of a row lies; sent to the workers, so it must be picklable.
        batches: the rows and views of each batch; every item of a batch wants as many views. May be endless. Some are
            asked for ahead: two a worker, and one more before a batch that is done is given out.
        side: height and width of a view in pixels.
        workers: processes; 0 decodes in this one.
        pin: put batches into page-locked memory, for a GPU.
        draft: decode JPEGs at the smallest scale that is not below what is wanted.
        identify: tell what each image is known by too.

    Yields:
        One `Decoded` a batch. An unreadable image is a hole in it, never an error.

    Raises:
        StorageError: a decoding process was killed, as happens where memory runs out.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's advice on the number of workers: it is the user's to choose
        loader = DataLoader(
            _Images(file, side, draft, identify),
            batch_sampler=_Endless(batches),
            num_workers=workers,
            collate_fn=_together,
            pin_memory=pin,
            # Forked workers end with a parent that is killed, and need no second import of torch. Python 3.14's
            # default on Linux, a fork server, gives neither; elsewhere the platform's own way holds.
            worker_init_fn=leave_to_parent,
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


class _Endless(Generic[Row]):
    """A batch sampler over any iterable: the loader asks for an object with __iter__, once."""

    def __init__(self, batches: Iterable[Sequence[Item[Row]]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Item[Row]]]:
        return (list(batch) for batch in self.batches)


def identify(files: Sequence[ImageFile], workers: int, bar: Bar) -> list[Identity | None]:
    """Read images only to learn what they are known by, without decoding them; None for one that cannot be read."""
    with ThreadPoolExecutor(max(workers, 1)) as pool:  # reading and hashing let other threads go on
        found = []
        for identity in pool.map(_identity, files):
            found.append(identity)
            bar.advance()
    return found


def _identity(file: ImageFile) -> Identity | None:
    state = state_of(file)
    try:
        return None if state is None else Identity(state, sha256(read_content(file)).digest())
    except UnreadableImage:
        return None


def unreadable(file: Callable[[int], ImageFile], n: int, workers: int, bar: Bar) -> NDArray[np.uint8]:
    """Decode every image once, only to learn which ones cannot be.

    Returns:
        uint8 [N]: 0, or the `Reason`.
    """
    starts = range(0, n, _SCANNED)
    batches = ([(row, (0,)) for row in range(start, min(start + _SCANNED, n))] for start in starts)
    reasons = [np.zeros(0, dtype=np.uint8)]
    for decoded in decode(file, batches, side=8, workers=workers):
        reasons.append(decoded.reasons.numpy().astype(np.uint8))
        bar.advance(len(reasons[-1]))
    return np.concatenate(reasons)
