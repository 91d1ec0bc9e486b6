"""How much memory processes can share: worker processes hand their batches over in it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

FOLDER = Path("/dev/shm")
"""Where Linux keeps shared memory. A container often has only 64 MB there."""


def free_shared_memory() -> int | None:
    """Bytes of shared memory that this process may fill; None where no fixed part of the memory is set apart for it.

    On Linux it is what /dev/shm has, 0 if that is missing or may not be written. The processes that torchrun has
    started on this machine share it.
    """
    if sys.platform != "linux":
        return None
    try:
        if not os.access(FOLDER, os.W_OK):
            return 0
        return shutil.disk_usage(FOLDER).free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    except OSError:
        return 0


def usable_processes(workers: int, note: Callable[[str], None]) -> int:
    """The number of worker processes, 0 where they could not even share a lock.

    Args:
        workers: how many are wanted.
        note: is told if there are none.
    """
    if not workers or free_shared_memory() != 0:
        return workers
    note(f"there is no shared memory here ({FOLDER}): one process does all the work")
    return 0
