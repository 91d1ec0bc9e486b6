"""CUDA graphs: all kernels of a function, recorded once and then launched together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

_WARM_UPS = 3
"""Calls before the recording: libraries choose kernels and allocate workspaces at the first calls. The number is that
of PyTorch's documentation."""

T = TypeVar("T")


class Graph(Generic[T]):
    """The kernels of a function, on the addresses that they had when they were recorded.

    A replay launches all of them at once, which costs the host a few microseconds instead of a few for each kernel. It
    runs no Python: it reads what is then in the tensors that the function has read, and writes where the function has
    written. The function may use the GPU only by launching kernels. It may not copy from the host, wait for the device
    or draw from its random generator. Tensors that it reads must stay where they are for as long as the graph is used.

    Args:
        function: what is recorded. The recording itself computes nothing.
        undo: called after the warm-up calls: puts back in place what the function changes.
        device: a GPU.

    Attributes:
        result: what the function has returned: its tensors have their values after each replay.
    """

    def __init__(self, function: Callable[[], T], undo: Callable[[], None], device: torch.device) -> None:
        stream = torch.cuda.current_stream(device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(stream)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                function()
        stream.wait_stream(aside)
        undo()
        self._graph = torch.cuda.CUDAGraph()
        # thread_local: another thread may wait for a copy or allocate page-locked memory in the meantime.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self.result = function()

    def replay(self) -> None:
        """Launch the kernels on the current stream."""
        self._graph.replay()
