"""Makes SIGTERM, which schedulers and CI runners send, end a command as Ctrl-C does."""

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
    """Handle the first SIGTERM in this process as Ctrl-C; the second one kills the process, as is the default.

    Nothing changes under torchrun: a process that waits for the others runs no Python code, and torchrun's agent, which
    sends the signal, expects it to end at once. Nothing changes either if SIGTERM has a handler already.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if torchrun.started() or not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    main_pid = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != main_pid:  # a forked worker inherits this handler; it must end as without it
            os.kill(os.getpid(), signal.SIGTERM)
            return
        # A signal to the process group ends the decoding workers too. Their exits are no errors now.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        interruption.interrupt()

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_at_once() -> None:
    """From now on, Ctrl-C ends the process without a traceback: the command is done, and Python shuts down.

    A handler that is not Python's own stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
