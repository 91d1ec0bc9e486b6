"""What torchrun's environment tells the command line, without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.errors import LabeldepError

COMMANDS = ("extract", "pretrain", "adversarial")
"""Those that share their work out over processes."""


def started() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, has started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


def rank() -> int:
    """This process's number among those that were started together; 0 on its own."""
    return int(os.environ["RANK"]) if started() else 0


def require_shared(command: str | None) -> None:
    """Refuse a command that several processes would only do several times.

    Raises:
        LabeldepError: names the commands that do share their work out.
    """
    if command not in (None, *COMMANDS) and started() and int(os.environ["WORLD_SIZE"]) > 1:
        raise LabeldepError(
            f"labeldep {command} is the work of one process, and torchrun has started {os.environ['WORLD_SIZE']}",
            f"Run it without torchrun; what many processes share: {', '.join(COMMANDS)}.",
        )


@contextmanager
def one_speaks() -> Iterator[None]:
    """Keep stdout for the first process: what the others have to say is the same."""
    if rank() == 0:
        yield
        return
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


def exit_code(skipped: bool) -> ExitCode:
    """Of a command that is done; torchrun takes any but 0 for a failure, and would begin again."""
    return ExitCode.of(skipped and not started())


def leave() -> None:
    """Part from the other processes, if this one has met them."""
    if "labeldep_cli.compute.distributed" in sys.modules:
        sys.modules["labeldep_cli.compute.distributed"].leave()
