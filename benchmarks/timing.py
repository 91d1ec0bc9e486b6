"""Alternating timings, and the machine's peak rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def in_turn(tasks: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each task. The tasks alternate, so that other load on the machine affects all of them."""
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    for repeat in range(repeats + 1):  # the first round warms up
        for name, task in tasks.items():
            begun = time.perf_counter()
            task()
            if repeat:
                taken[name].append(time.perf_counter() - begun)
    return {name: statistics.median(values) for name, values in taken.items()}


def matmul_rate(side: int = 2048, repeats: int = 7) -> float:
    """Operations per second of this machine's matrix product in float32, with torch's number of threads."""
    one, other = torch.randn(side, side), torch.randn(side, side)
    out = torch.empty(side, side)
    seconds = in_turn({"product": lambda: torch.mm(one, other, out=out)}, repeats)["product"]
    return 2 * side**3 / seconds


def memory_rate(size: int = 1 << 28, repeats: int = 7) -> float:
    """Bytes per second that a copy reads and writes."""
    source = torch.ones(size // 4)
    target = torch.empty_like(source)
    return 2 * size / in_turn({"copy": lambda: target.copy_(source)}, repeats)["copy"]
