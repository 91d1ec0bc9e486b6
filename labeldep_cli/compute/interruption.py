"""Interruptions by Ctrl-C and SIGTERM: at once, or at a point where the work can be taken up again."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


class Deferral:
    """The interruptions of a block of work, which ends itself soon after one was requested.

    Args:
        announce: tells the user, at the first request, that the work ends soon.

    Attributes:
        requested: an interruption has come, and the block is to end.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self.requested = False
        self._announce = announce
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of the block that changes nothing which must be kept: there an interruption raises immediately.

        Raises:
            KeyboardInterrupt: at an interruption, which `requested` then says nothing of.
        """
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def accept(self) -> bool:
        """Note an interruption; False where it must raise: a second one, or one in a part that ends at once."""
        if self._at_once or self.requested:
            return False
        self.requested = True
        # The handler may run amid a print to the same stream, which refuses a second one.
        with suppress(RuntimeError):
            self._announce()
        return True


_deferral: Deferral | None = None
"""That of the main thread, which alone runs signal handlers."""


def interrupt() -> None:
    """Interrupt the work of this process, as a signal handler.

    Raises:
        KeyboardInterrupt: unless a `deferred` block ends itself soon.
    """
    if _deferral is None or not _deferral.accept():
        raise KeyboardInterrupt


@contextmanager
def deferred(announce: Callable[[], None], enabled: bool = True) -> Iterator[Deferral]:
    """A block that the first Ctrl-C (or `interrupt`) does not end: it reads `requested`, and ends itself.

    The second one raises KeyboardInterrupt at once. In another thread than the main one, or where somebody else
    handles SIGINT, nothing changes: `requested` stays False.

    Args:
        announce: as for `Deferral`.
        enabled: False for a block like any other.
    """
    global _deferral
    deferral = Deferral(announce)
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield deferral
        return
    mine = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == mine:  # a forked worker inherits this handler, and leaves the end to its parent
            interrupt()

    handled = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    _deferral = deferral
    if handled:
        signal.signal(signal.SIGINT, handle)
    try:
        yield deferral
    finally:
        if handled:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        _deferral = None


def leave_to_parent(worker: int) -> None:
    """Have a worker process outlive signals that a whole process group gets: its parent may still need its results.

    Ctrl-C and the first SIGTERM are ignored; the second SIGTERM, which a parent sends that does not wait, ends it. A
    worker whose parent is gone ends by itself.

    Args:
        worker: its number, as a DataLoader gives it.
    """
    signals = 0

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
