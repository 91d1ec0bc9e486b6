"""What a person sees: notes, bars and trainings on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from labeldep_cli.cli import torchrun
from labeldep_cli.cli.lines import Lines
from labeldep_cli.errors import LabeldepError
from labeldep_cli.progress import Bar, SilentObserver, TrainingObserver, TrainingProgress

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from labeldep_cli.datasets.split import Skipped

LISTED = 10
"""Skipped inputs named on stderr; `--json` has them all."""


def tell(text: str) -> None:
    """Print a line on stderr; of the processes that torchrun has started, the first one speaks for all."""
    if torchrun.rank() == 0:
        typer.echo(text, err=True)


class Terminal:
    """The command line's reporter: notes as lines on stderr, what moves only where stderr is a terminal.

    Args:
        lines: about so many tell of a training elsewhere; 0 for one when it is done.
        bars: False where lines of results come between a bar's updates on the same terminal.
    """

    def __init__(self, lines: int = 20, bars: bool = True) -> None:
        self._lines = lines
        self._bars = bars

    def note(self, text: str) -> None:
        """Print a note."""
        tell(text)

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show a bar with units a second and the time left."""
        if not (self._bars and _moves()):
            yield SilentObserver()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        # What is printed on stdout while the bar is there is a result, and must not be led to the bar's own stderr.
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
            yield _Shown(progress, progress.add_task(what, total=total, rate=""), unit)

    @contextmanager
    def training(self, training: TrainingProgress) -> Iterator[TrainingObserver]:
        """Show losses and scores as they come, or say them in lines."""
        if not _moves():
            lines = Lines(training, self._lines, tell)
            yield lines
            lines.close()
            return
        from rich.console import Console
        from rich.live import Live

        from labeldep_cli.cli.view import View

        view = View(training)
        with Live(view, console=Console(stderr=True), refresh_per_second=2, transient=True):
            yield view


def _moves() -> bool:
    """Whether stderr is a terminal that can be written over, and this process the one that speaks."""
    return torchrun.rank() == 0 and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Shown:
    def __init__(self, progress: Progress, task: TaskID, unit: str) -> None:
        self.progress = progress
        self.task = task
        self.unit = unit

    def advance(self, n: int = 1) -> None:
        self.progress.advance(self.task, n)
        speed = self.progress.tasks[0].speed
        self.progress.update(self.task, rate=f"{speed:.0f} {self.unit}/s" if speed else "")


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout."""
    typer.echo(json_line(value))


def json_line(value: Mapping[str, Any]) -> str:
    """A JSON object on one line, without its end."""
    text = json.dumps(value, ensure_ascii=False)
    # A file name that is not UTF-8 comes as lone surrogates: JSON can only escape those.
    return text if _encodable(text) else json.dumps(value)


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> None:
    """Print a table on stdout; the first `text` columns are words, the others numbers."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    if title:
        typer.echo(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k < text else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # As wide as it needs to be: a narrow terminal breaks its lines, but no number is cut in two.
    Console(width=240).print(table)


def print_error(error: LabeldepError) -> None:
    """Print what is wrong, in which of several processes, and below it how to mend it."""
    typer.echo(f"error{f' in process {torchrun.rank()}' if torchrun.rank() else ''}: {error.what}", err=True)
    for line in error.remedy.splitlines():
        typer.echo(f"       {line}", err=True)


def name_skipped(skipped: Sequence[Skipped]) -> None:
    """Name on stderr what was skipped or missing."""
    for told, some in (
        ("skipped", [s for s in skipped if not s.missing]),
        ("missing", [s for s in skipped if s.missing]),
    ):
        for item in some[:LISTED]:
            tell(f"{told}: {item.path}: {item.reason}")
        if len(some) > LISTED:
            tell(f"{told}: and {len(some) - LISTED} more (--json lists all)")
