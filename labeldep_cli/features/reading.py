"""Decoding in the way that a store or a run asks for, by as many processes as shared memory has room for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import torch

from labeldep_cli.compute.shared_memory import free_shared_memory
from labeldep_cli.config import Jpegs
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.decode import AHEAD, Decoded, Item, Row, decode, decode_here
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.gpu_decode import decode_on_gpu, decode_on_gpu_here
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.files import format_size

_IN_USE = 3
"""Batches that are in shared memory beside those in advance: in the pinning thread, ready, and in use."""


class Readers(NamedTuple):
    """The processes that decode.

    Attributes:
        workers: their number; 0 decodes in this process, without shared memory.
        ahead: number of batches that each is given in advance.
    """

    workers: int
    ahead: int


def readers_within(workers: int, batch_bytes: int, room: int | None) -> Readers:
    """As many readers as fit in shared memory with their batches: at most `workers`, fewer batches in advance first.

    Args:
        workers: number of processes.
        batch_bytes: of a batch of decoded images.
        room: bytes of shared memory; None for no limit.
    """
    if room is None or not workers:
        return Readers(workers, AHEAD)
    batches = room // batch_bytes - _IN_USE
    ahead = next((ahead for ahead in range(AHEAD, 0, -1) if workers * ahead <= batches), 1)
    fitting = max(min(workers, batches), 0)
    return Readers(fitting, ahead if fitting else AHEAD)


def read_batches(
    file: Callable[[Row], ImageFile],
    batches: Iterable[Sequence[Item[Row]]],
    framing: Framing,
    rules: PixelRules,
    jpegs: Jpegs,
    workers: int,
    device: torch.device,
    note: Callable[[str], None],
    identify: bool = False,
    largest: int = 0,
) -> Iterator[Decoded]:
    """Decode batches of images, as `decode` does.

    Args:
        file, batches, framing, rules, identify: as for `decode`.
        jpegs: how JPEGs are decoded. By a GPU, images of a batch are on the device.
        workers: number of processes, if shared memory has room for their batches.
        device: where the images are needed.
        note: is told if there are fewer processes.
        largest: number of images of the largest batch; the first batch tells it if that is larger.

    Raises:
        LabeldepError: JPEGs are to be decoded by a GPU, and the device is none.
        StorageError: a decoding process was killed.
    """
    remaining = iter(batches)
    first = next(remaining, None)
    if first is None:
        return
    views = max((len(views) for _, views in first), default=1)
    size = max(len(first), largest, 1) * views * 3 * framing.side**2
    readers = readers_within(workers, size, room := free_shared_memory())
    if readers.workers < workers:
        note(
            f"{format_size(room or 0)} of shared memory (/dev/shm) are free, and batches of {format_size(size)} pass "
            f"through it: {readers.workers or 'no'} of {workers} decoding processes"
        )
    every = chain([first], remaining)
    if jpegs == "gpu":
        yield from decode_on_gpu(file, every, framing, rules, *readers, device, identify)
    else:
        pin = device.type == "cuda"
        yield from decode(file, every, framing, rules, readers.workers, pin, jpegs == "draft", identify, readers.ahead)


def read_here(
    file: Callable[[Row], ImageFile],
    batch: Sequence[Item[Row]],
    framing: Framing,
    rules: PixelRules,
    jpegs: Jpegs,
    device: torch.device,
) -> Decoded:
    """Decode one batch in this process, immediately; arguments and errors as those of `read_batches`."""
    if jpegs == "gpu":
        return decode_on_gpu_here(file, batch, framing, rules, device)
    return decode_here(file, batch, framing, rules, jpegs == "draft")
