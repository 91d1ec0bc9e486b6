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
    """Handle these signals in this process as an interruption; a second SIGTERM or SIGHUP kills it, as is the default.

    Under torchrun each ends the process as is the default: a process that waits for the others runs no Python code, and
    torchrun's agent, which sends the signal, expects it to end at once. A signal that has a handler already, or is
    ignored (`nohup`), stays so.
    """
    in_main = threading.current_thread() is threading.main_thread()
    handled = interruption.with_default() if in_main else []
    main_pid = os.getpid()

    def restore() -> None:
        for one in handled:
            signal.signal(one, interruption.default_of(one))

    def interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != main_pid:  # a forked worker inherits this handler
            if number != signal.SIGINT:  # Ctrl-C is for its parent; of others it must end as without it
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if number != signal.SIGINT:
            for one in handled:
                if one != signal.SIGINT:
                    signal.signal(one, signal.SIG_DFL)
        # A signal to the process group ends the decoding workers too. Their exits are no errors now.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        interruption.interrupt(frame)

    for one in handled:
        signal.signal(one, interruption.default_of(one) if torchrun.started() else interrupt)
    try:
        yield
    finally:
        restore()


def end_at_once() -> None:
    """From now on, Ctrl-C ends the process without a traceback: the command is done, and Python shuts down.

    A handler that is not Python's own stays.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
