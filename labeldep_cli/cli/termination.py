"""Makes SIGTERM, which schedulers send, and SIGHUP, which a closed terminal sends, end a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from labeldep_cli.cli import torchrun
from labeldep_cli.compute import interruption


@contextmanager
def as_interruption() -> Iterator[None]:
    """Handle the first of these signals in this process as Ctrl-C; the second one kills the process, as is the default.

    Nothing changes under torchrun: a process that waits for the others runs no Python code, and torchrun's agent, which
    sends the signal, expects it to end at once. A signal that has a handler already, or is ignored (`nohup`), stays so.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handled = [number for number in _signals() if signal.getsignal(number) is signal.SIG_DFL]
    if torchrun.started() or not in_main or not handled:
        yield
        return
    main_pid = os.getpid()

    def restore() -> None:
        for one in handled:
            signal.signal(one, signal.SIG_DFL)

    def interrupt(number: int, frame: FrameType | None) -> None:
        restore()
        if os.getpid() != main_pid:  # a forked worker inherits this handler; it must end as without it
            os.kill(os.getpid(), number)
            return
        # A signal to the process group ends the decoding workers too. Their exits are no errors now.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        interruption.interrupt()

    for one in handled:
        signal.signal(one, interrupt)
    try:
        yield
    finally:
        restore()


def _signals() -> list[signal.Signals]:
    """Those that end a command; Windows has no SIGHUP."""
    return [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def end_at_once() -> None:
    """From now on, Ctrl-C ends the process without a traceback: the command is done, and Python shuts down.

    A handler that is not Python's own stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
