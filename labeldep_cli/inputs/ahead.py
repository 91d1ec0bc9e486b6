"""Requests for batches, drawn and packed ahead of their use by a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor

from labeldep_cli.compute.staging import Slot, unpacked
from labeldep_cli.inputs.batches import Request, staged, tensors_of

_SLOTS = 4
"""Number of buffers: updates that are drawn ahead, or whose copy to the device has not ended."""


class Packed(NamedTuple):
    """The requests of an update, packed in page-locked memory.

    Attributes:
        requests: the requests, on the CPU.
        packed: uint8 [size], their rows, views and draws.
        slot: the buffer that `packed` lies in.
    """

    requests: Sequence[Request]
    packed: Tensor
    slot: Slot

    @property
    def layout(self) -> tuple[object, ...]:
        """What all updates have in common whose requests can lie at the same addresses; can be a key."""
        sizes = tuple((request.global_batch_size, request.needs_x) for request in self.requests)
        return sizes, tuple((tensor.dtype, tensor.shape) for tensor in tensors_of(self.requests))

    def within(self, buffer: Tensor) -> list[Request]:
        """The requests as views of a buffer on the device, uint8 [size], to which `load` copies them."""
        return staged(self.requests, lambda tensors: unpacked(buffer, tensors))

    def load(self, buffer: Tensor) -> None:
        """Copy the requests to a buffer on the device, uint8 [size], without waiting."""
        buffer.copy_(self.packed, non_blocking=True)
        self.slot.record_copy(torch.cuda.current_stream(buffer.device))


class AheadOfUse:
    """A stream of packed requests instead of batches, for steps that look rows up themselves.

    A thread draws and packs them while the host launches earlier updates. Draws depend only on their keys, so they are
    the same in any thread. The order of the updates is kept.

    Args:
        device: the GPU to which requests are copied.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def stream(
        self, updates: Iterable[Sequence[Request]], pools: Iterable[Tensor] | None = None
    ) -> Generator[Packed, None, None]:
        """Yield the requests of each update; those of an update must be loaded before the next ones are taken."""
        remaining = iter(updates)
        # A new thread has the first GPU as its current device, and page-locked memory would belong to that.
        start = torch.cuda.set_device
        with ThreadPoolExecutor(1, "draws", initializer=start, initargs=(self._device,)) as thread:
            ahead = deque(thread.submit(_next_packed, remaining, Slot()) for _ in range(_SLOTS))
            while (update := _first(ahead)) is not None:
                yield update
                ahead.append(thread.submit(_next_packed, remaining, update.slot))


def _first(ahead: deque[Future[Packed | None]]) -> Packed | None:
    return ahead.popleft().result()


def _next_packed(updates: Iterator[Sequence[Request]], slot: Slot) -> Packed | None:
    """The next update, packed into a slot; None if there is none. Waits for the last copy from the slot."""
    requests = next(updates, None)
    if requests is None:
        return None
    return Packed(requests, slot.pack(tensors_of(requests)), slot)
