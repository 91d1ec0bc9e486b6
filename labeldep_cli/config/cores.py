"""The cores that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux shows a container its limits."""


def cgroup(name: str) -> tuple[int | None, ...]:
    """The numbers in a file of the container's limits; None for "max", or if there is no such file."""
    try:
        words = (CGROUP / name).read_text().split()
    except OSError:
        return (None, None)
    return tuple(int(word) if word.isdigit() else None for word in words)


def core_quota() -> float | None:
    """The cores' worth of time that a container may use, such as 1.5; None for no limit."""
    quota, period = cgroup("cpu.max")
    return quota / period if quota and period else None


def usable_cores() -> int:
    """The number of cores that this process may use: those it may run on, within the container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = core_quota()
    return cores if quota is None else min(cores, math.ceil(quota))
