"""SIGTERM, which schedulers and CI runners send, ends a command as Ctrl-C does."""

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
    """Do on the first SIGTERM in this process what Ctrl-C does; the second one kills as it always did.

    Not under torchrun: a process that waits for its peers runs no Python, and the agent that sends the signal wants it
    gone at once. Nor where somebody else has already decided what SIGTERM does.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if torchrun.started() or not in_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    mine = os.getpid()

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != mine:  # a forked worker has inherited this: it dies as if it had not
            os.kill(os.getpid(), signal.SIGTERM)
            return
        if hasattr(signal, "SIGCHLD"):  # sent to a whole group it ends decoding workers too: no news, while we leave
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        interruption.interrupt()

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
