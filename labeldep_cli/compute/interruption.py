"""Interruptions by Ctrl-C and SIGTERM: immediate, or deferred to a point from which the work can be resumed."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType


class Deferral:
    """The interruptions of a block of work that ends itself soon after a request.

    Args:
        announce: tells the user, at the first request, that the work ends soon.

    Attributes:
        requested: whether an interruption was requested, so that the block must end.
    """

    def __init__(self, announce: Callable[[], None]) -> None:
        self.requested = False
        self._announce = announce
        self._at_once = False

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """A part of the block without results that must be saved: here an interruption raises immediately.

        Raises:
            KeyboardInterrupt: an interruption was requested; `requested` stays False.
        """
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def accept(self) -> bool:
        """Record an interruption; False if it must raise: a second one, or one within `at_once`."""
        if self._at_once or self.requested:
            return False
        self.requested = True
        # The handler may run during a print to the same stream, which refuses another print meanwhile.
        with suppress(RuntimeError):
            self._announce()
        return True


_deferral: Deferral | None = None
"""The current deferral of the main thread; only this thread runs signal handlers."""


def interrupt() -> None:
    """Interrupt the work of this process. Signal handlers call this.

    Raises:
        KeyboardInterrupt: unless a `deferred` block accepts the interruption, and ends itself soon.
    """
    if _deferral is None or not _deferral.accept():
        raise KeyboardInterrupt


@contextmanager
def deferred(announce: Callable[[], None], enabled: bool = True) -> Iterator[Deferral]:
    """A block that the first Ctrl-C (or `interrupt`) does not end: the block reads `requested`, and ends itself.

    The second one raises KeyboardInterrupt immediately. Outside the main thread nothing is deferred. If the program has
    its own handler of SIGINT, that handler stays.

    Args:
        announce: as for `Deferral`.
        enabled: False to defer nothing.
    """
    global _deferral
    deferral = Deferral(announce)
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield deferral
        return
    pid = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == pid:  # a forked worker inherits this handler; its parent decides when it ends
            interrupt()

    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    _deferral = deferral
    if is_default:
        signal.signal(signal.SIGINT, handle)
    try:
        yield deferral
    finally:
        _deferral = None  # first: one more Ctrl-C may come before the next line
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def leave_to_parent(worker: int) -> None:
    """Let a worker process survive signals to its whole process group, because its parent may still need its results.

    Ctrl-C, SIGHUP and the first SIGTERM are ignored. The second SIGTERM, which comes from a parent that does not wait,
    ends the worker. A worker without a parent ends by itself. A parent that ends may close its connections while a
    thread of the worker still sends tensors: that is no error to report.

    Args:
        worker: number of the worker, as a DataLoader passes it.
    """
    signals = 0

    def terminate(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(0)

    def report(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not issubclass(kind, ConnectionError | EOFError):
            sys.__excepthook__(kind, error, traceback)

    for ignored in ("SIGINT", "SIGHUP"):  # Windows has no SIGHUP
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, terminate)
    sys.excepthook = report
