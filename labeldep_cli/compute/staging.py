"""From the host to the device without a wait: what is drawn for an update is packed and copied as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

_SLOTS = 4
"""Buffers in turn: the host may be so many updates ahead of the device. An iteration of the defaults has four."""

_ALIGNMENT = 16
"""Bytes: each tensor begins at a multiple of it, which suits every dtype and the kernels' vector loads."""


class Staging:
    """Copies tensors of the host to a device, those of one call in one copy, and does not wait for it.

    They are packed into page-locked memory, from which a GPU copies by itself. Whatever is launched afterwards on the
    device's current stream finds them there. A buffer is written again only when an event tells that its last copy has
    ended; there are a few of them, so that this is long past.

    To a CPU nothing is copied: it gets the tensors as they are.

    Args:
        device: where to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._slots = [_Slot() for _ in range(_SLOTS)]
        self._calls = 0

    def __reduce__(self) -> tuple[type[Staging], tuple[torch.device]]:
        """A copy has buffers of its own."""
        return Staging, (self.device,)

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same tensors on the device."""
        if self.device.type == "cpu":
            return list(tensors)
        *starts, size = accumulate((-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors), initial=0)
        slot = self._slots[self._calls % _SLOTS]
        self._calls += 1
        packed = slot.take(size)
        for start, tensor in zip(starts, tensors, strict=True):
            _part(packed, start, tensor).copy_(tensor)
        there = packed.to(self.device, non_blocking=True)
        slot.is_copied_by(torch.cuda.current_stream(self.device))
        return [_part(there, start, tensor) for start, tensor in zip(starts, tensors, strict=True)]


class _Slot:
    """A page-locked buffer, and whether a copy from it is under way."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None

    def take(self, size: int) -> Tensor:
        """Its first `size` bytes, to be written: uint8 [size]."""
        if self._copied is not None:
            self._copied.synchronize()
        if len(self._buffer) < size:
            with torch.inference_mode(False):  # one that evaluation makes is written in training too
                self._buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return self._buffer[:size]

    def is_copied_by(self, stream: torch.cuda.Stream) -> None:
        """Take note of a copy that was just launched on a stream."""
        if self._copied is None:  # blocking: where the device is behind, the host sleeps and leaves its core to others
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._copied.record(stream)


def _part(buffer: Tensor, start: int, like: Tensor) -> Tensor:
    """The part of a buffer uint8 [size] that begins at `start`, as a tensor of some other's dtype and shape."""
    return buffer[start : start + like.nbytes].view(like.dtype).view(like.shape)
