"""Asynchronous transfer from host to device: the tensors of an update are packed into one copy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from labeldep_cli.compute.transfer import copies_ahead

_SLOTS = 4
"""Number of buffers, used in rotation: the host can be this many updates ahead of the device. With the default settings
an iteration has four updates."""

_ALIGNMENT = 16
"""Each tensor begins at a multiple of this many bytes, which suits every dtype and the vector loads of the kernels."""


class Staging:
    """Copies tensors from the host to a device without waiting; each call makes one copy.

    The tensors are packed into page-locked memory, from which a GPU copies asynchronously. Work launched later on the
    device's current stream runs after the copy. A buffer is reused only after an event reports that its last copy has
    ended. There are several buffers, so this wait is usually over before it starts.

    For a CPU nothing is copied: the result is the same tensors. Other devices get one copy for each tensor, and the
    host waits for it.

    Args:
        device: the destination.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._slots = [Slot() for _ in range(_SLOTS)]
        self._calls = 0

    def __reduce__(self) -> tuple[type[Staging], tuple[torch.device]]:
        """Copies and pickles get new buffers."""
        return Staging, (self.device,)

    def __call__(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The same tensors on the device."""
        if not copies_ahead(self.device):
            return [tensor.to(self.device) for tensor in tensors]
        slot = self._slots[self._calls % _SLOTS]
        self._calls += 1
        on_device = slot.pack(tensors).to(self.device, non_blocking=True)
        slot.record_copy(torch.cuda.current_stream(self.device))
        return unpacked(on_device, tensors)


class Slot:
    """A page-locked buffer, and the event of the last copy from it."""

    def __init__(self) -> None:
        self._buffer = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None

    def pack(self, tensors: Sequence[Tensor]) -> Tensor:
        """The bytes of the tensors, as `unpacked` takes them, uint8 [size]; waits for the last copy from the buffer."""
        *_, size = _starts(tensors)
        packed = self.take(size)
        for part, tensor in zip(unpacked(packed, tensors), tensors, strict=True):
            part.copy_(tensor)
        return packed

    def take(self, size: int) -> Tensor:
        """The first `size` bytes of the buffer, free to be written: uint8 [size]; waits for the last copy from it."""
        if self._copied is not None:
            self._copied.synchronize()
        if len(self._buffer) < size:
            with torch.inference_mode(False):  # a buffer created during evaluation is also written during training
                self._buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return self._buffer[:size]

    def record_copy(self, stream: torch.cuda.Stream) -> None:
        """Record the event of a copy that was just launched on a stream."""
        if self._copied is None:  # blocking: while the host waits it sleeps, and its core is free for others
            self._copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._copied.record(stream)


def unpacked(packed: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in bytes uint8 [size], as views of them.

    Args:
        packed: on any device, as `Slot.pack` fills it.
        like: tensors with the dtypes and shapes of those that were packed.
    """
    *starts, _ = _starts(like)
    parts = (packed[start : start + tensor.nbytes] for start, tensor in zip(starts, like, strict=True))
    return [part.view(tensor.dtype).view(tensor.shape) for part, tensor in zip(parts, like, strict=True)]


def _starts(tensors: Sequence[Tensor]) -> list[int]:
    """The byte at which each tensor begins, and the number of bytes of all."""
    return list(accumulate((-(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT for tensor in tensors), initial=0))
