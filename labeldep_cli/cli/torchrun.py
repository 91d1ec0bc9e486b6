"""Reads the environment variables that torchrun sets. Imports no torch."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.compute import interruption
from labeldep_cli.errors import LabeldepError

COMMANDS = ("extract", "pretrain", "adversarial")
"""The commands that distribute their work over processes."""


def started() -> bool:
    """Whether this process was started by torchrun or a launcher that sets the same variables."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def end_with_agent() -> None:
    """End this process soon after torchrun itself, even if that was killed; other launchers are left alone.

    The processes would go on by themselves, and write what the same command, run again, writes too.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        interruption.end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))


def rank() -> int:
    """The rank of this process among those that were started together; 0 for a single process."""
    return int(os.environ["RANK"]) if started() else 0


def require_shared(command: str | None) -> None:
    """Refuse a command that several processes would only repeat.

    Raises:
        LabeldepError: the command does not distribute its work; the message names those that do.
    """
    if command not in (None, *COMMANDS) and started() and int(os.environ["WORLD_SIZE"]) > 1:
        raise LabeldepError(
            f"labeldep {command} runs in one process, but torchrun has started {os.environ['WORLD_SIZE']}",
            f"Run it without torchrun. Commands for several processes: {', '.join(COMMANDS)}.",
        )


@contextmanager
def first_process_prints() -> Iterator[None]:
    """Discard the stdout of all processes but the first, since all print the same."""
    if rank() == 0:
        yield
        return
    with Path(os.devnull).open("w") as null, redirect_stdout(null):
        yield


def exit_code(skipped: bool) -> ExitCode:
    """The exit code of a command that is done. Under torchrun it is 0: any other code would be a failure to restart."""
    return ExitCode.of(skipped and not started())


def leave() -> None:
    """Leave the process group, if this process has joined one."""
    if "labeldep_cli.compute.distributed" in sys.modules:
        sys.modules["labeldep_cli.compute.distributed"].leave()
