"""Interruptions by Ctrl-C and SIGTERM: immediate, or deferred to a point from which the work can be resumed."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any


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


_early: list[int] = []
"""The signals that came before a command began."""

_AGAIN = 0.02
"""Seconds after which an interruption that came amid an import, or an `unbroken` block, is tried again."""

_PARENT_GONE = 0.25
"""Seconds between two looks of a worker at its parent."""


def ending() -> list[signal.Signals]:
    """The signals that end a command: of Ctrl-C, a scheduler, and a closed terminal; Windows has no SIGHUP."""
    return [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def default_of(number: int) -> Callable[[int, FrameType | None], object] | signal.Handlers:
    """What Python does at a signal that nobody handles."""
    return signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL


def with_default() -> list[signal.Signals]:
    """Those signals of `ending` that this process leaves to Python, and neither handles nor ignores."""
    return [number for number in ending() if signal.getsignal(number) in (default_of(number), _keep)]


@contextmanager
def kept_for_later() -> Iterator[None]:
    """Keep the first signal that would end the process until a command begins; the second ends it at once.

    Until then nothing was begun that could be kept, and nothing could say so.
    """
    kept = with_default()
    for number in kept:
        signal.signal(number, _keep)
    try:
        yield
    finally:
        for number in kept:
            if signal.getsignal(number) is _keep:
                signal.signal(number, default_of(number))


def _keep(number: int, frame: FrameType | None) -> None:
    _early.append(number)
    for each in ending():
        if signal.getsignal(each) is _keep:
            signal.signal(each, signal.SIG_DFL)


def interrupt_if_kept() -> None:
    """Interrupt the work of this process if a signal came before.

    Raises:
        KeyboardInterrupt: one did.
    """
    if _early:
        _early.clear()
        raise KeyboardInterrupt


_unbroken = 0
"""How many blocks of `unbroken` the main thread is in."""


@contextmanager
def unbroken() -> Iterator[None]:
    """A short block that an interruption waits for, because what is called there makes another error of it.

    Safetensors turns the KeyboardInterrupt of a tensor's constructor into its own error: a sound file would be broken.
    """
    global _unbroken
    depth = int(threading.current_thread() is threading.main_thread())
    _unbroken += depth
    try:
        yield
    finally:
        _unbroken -= depth


def interrupt(frame: FrameType | None = None) -> None:
    """Interrupt the work of this process. Signal handlers call this.

    An import, or an `unbroken` block, goes on until it is done: in an import, libraries may swallow an exception, or
    leave Python with half of a module. A second interruption does not wait.

    Args:
        frame: where the process is.

    Raises:
        KeyboardInterrupt: unless a `deferred` block accepts the interruption, and ends itself soon.
    """
    if _deferral is not None and _deferral.accept():
        return
    if _waits(frame) and hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
        signal.signal(signal.SIGALRM, _try_again)
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    _stop_trying()
    raise KeyboardInterrupt


def _try_again(number: int, frame: FrameType | None) -> None:
    if _waits(frame):
        signal.setitimer(signal.ITIMER_REAL, _AGAIN)
        return
    _stop_trying()
    interrupt()


def _stop_trying() -> None:
    if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _try_again:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _waits(frame: FrameType | None) -> bool:
    return bool(_unbroken) or _importing(frame)


def _importing(frame: FrameType | None) -> bool:
    """Whether a frame, or one of those that led to it, imports a module."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


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
            interrupt(frame)

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
    ends the worker, and so does the end of its parent, however that ends. A parent that ends may close its connections
    while a thread of the worker still sends tensors: that is no error to report.

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
    end_with_parent()


def end_with_parent(end: Callable[[], None] | None = None) -> None:
    """End this process soon after its parent, even if that was killed: nobody waits for its results any more.

    A pool's worker that waits for work would otherwise wait for ever, since the other workers hold the same pipe open.

    Args:
        end: ends this process; if it is not given, the process ends at once, without the folder of its sockets.
    """
    parent, inherited = os.getppid(), _sockets()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_GONE)
        if end is not None:
            end()
            return
        if _sockets() not in (None, inherited):  # a fork's parent, or the parent of that, still uses an inherited one
            shutil.rmtree(str(_sockets()), ignore_errors=True)
        os._exit(1)

    threading.Thread(target=watch, name="watches the parent", daemon=True).start()


def _sockets() -> str | None:
    """The folder in which `multiprocessing` keeps the sockets of this process; None if it has none yet."""
    config: dict[str, Any] = getattr(multiprocessing.current_process(), "_config", {})
    return config.get("tempdir")


def work_for_parent() -> None:
    """Set up a worker of a pool: Ctrl-C is for its parent to handle, and it ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
