"""Commands in forks of a process that has imported all already: quick to start, and with an end that is looked at."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import torch
import typer.main
from typer.testing import CliRunner

import labeldep_cli
from labeldep_cli.cli import app
from labeldep_cli.compute import interruption

CRASHED = 99
"""The exit code of a task that raised what labeldep does not tell."""


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: its exit code; None if it was stopped.
        out, err: what it printed.
        memory: the most bytes that it held; those of the process that it is a fork of count too.
    """

    code: int | None
    out: bytes
    err: bytes
    memory: int = 0


def import_all() -> None:
    """Import and build what commands need when they run, so that each fork has it."""
    for module in pkgutil.walk_packages(labeldep_cli.__path__, "labeldep_cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    with tempfile.TemporaryDirectory() as folder:  # what a first command imports and computes once
        project = Path(folder, "labeldep.toml")
        project.write_text("")
        CliRunner().invoke(app, ["--project", str(project), "runs", "--runs-dir", folder])
    built = typer.main.get_command(app)
    typer.main.get_command = lambda typer_instance: (
        built
    )  # its 400 flags take longer to build than most commands to run
    gc.freeze()  # a fork does not copy what it never collects


class Child:
    """A task in a fork of this process.

    Args:
        task: what it does.
        folder: its working directory.
        apart: it gets a process group of its own, as a command in a terminal has one.
    """

    def __init__(self, task: Callable[[], None], folder: Path, apart: bool = False) -> None:
        self._streams: list[IO[bytes]] = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed by `wait`
        self._status: int | None = None
        self._memory = 0
        self.pid = os.fork()
        if not self.pid:
            if apart:
                os.setsid()
                for number in interruption.ending():  # a shell starts with Ctrl-C ignored what is in the background
                    signal.signal(number, interruption.default_of(number))
            out, err = (stream.fileno() for stream in self._streams)
            _be_child(task, folder, out, err)

    def ended(self) -> bool:
        """Whether it has ended."""
        if self._status is None:
            done, found, usage = os.wait4(self.pid, os.WNOHANG)
            if done:
                self._status, self._memory = found, 1024 * usage.ru_maxrss
        return self._status is not None

    def told(self) -> bytes:
        """What it has printed so far on stderr."""
        return os.pread(self._streams[1].fileno(), 1 << 20, 0)

    def signal(self, number: int, group: bool) -> None:
        """Send a signal to it, or to its process group."""
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, limit: float) -> Ended:
        """Its end; after `limit` seconds it is stopped."""
        deadline = time.monotonic() + limit
        while not self.ended() and time.monotonic() < deadline:
            time.sleep(0.002)
        if in_time := self.ended():
            code = os.waitstatus_to_exitcode(self._status or 0)
        else:
            os.kill(self.pid, signal.SIGKILL)
            self._memory = 1024 * os.wait4(self.pid, 0)[2].ru_maxrss
        texts = []
        for stream in self._streams:
            stream.seek(0)
            texts.append(stream.read())
            stream.close()
        out, err = texts
        return Ended(code if in_time else None, out, err, self._memory)


def in_child(task: Callable[[], None], folder: Path, limit: float) -> Ended:
    """Run a task in a fork, which has imported all already, and wait for it at most `limit` seconds."""
    return Child(task, folder).wait(limit)


def run_command(words: list[str]) -> None:
    """Run a command line in this process, as the task of a child."""
    from labeldep_cli.__main__ import main

    sys.argv = ["labeldep", *words]
    main()


def _be_child(task: Callable[[], None], folder: Path, out: int, err: int) -> None:
    code = 0
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    try:
        os.chdir(folder)
        task()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException as error:
        traceback.print_exc()
        last = [frame for frame in traceback.extract_tb(error.__traceback__) if "labeldep_cli" in frame.filename][-1:]
        where = "".join(f"{frame.filename.rpartition('labeldep_cli/')[2]}:{frame.lineno}" for frame in last)
        sys.stderr.write(f"{where} {type(error).__name__}\n")
        code = CRASHED
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
