"""Output on the terminal: notes, progress bars and training progress on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import typer

from labeldep_cli.cli import torchrun
from labeldep_cli.cli.lines import Lines
from labeldep_cli.errors import LabeldepError
from labeldep_cli.progress import Bar, SilentObserver, TrainingObserver, TrainingProgress
from labeldep_cli.text import json_text, visible

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from labeldep_cli.datasets.split import Skipped

_COLUMNS = 240
"""Columns that fit every table. A narrow terminal wraps its lines, but no number is shortened."""

LISTED = 10
"""Number of skipped inputs that are named on stderr; `--json` has all."""


def print_note(text: str) -> None:
    """Print a line on stderr. Under torchrun, only the first process prints."""
    if torchrun.rank() == 0:
        print_line(text, err=True)


def print_line(text: str, err: bool = False) -> None:
    """Print a line with names of labels or files in it on stdout, or on stderr; it stays one line."""
    typer.echo(visible(text, file_bytes=True), err=err)


class Terminal:
    """The command line's reporter: notes are lines on stderr; bars and live views only if stderr is a terminal.

    Args:
        lines: approximate number of lines for a training if stderr is not a terminal; 0 for one line at its end.
        bars: whether to show bars. False if results are printed on the same terminal between a bar's updates.
    """

    def __init__(self, lines: int = 20, bars: bool = True) -> None:
        self._lines = lines
        self._bars = bars

    def note(self, text: str) -> None:
        """Print a note."""
        print_note(text)

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Show a bar with units per second and the time left."""
        if not (self._bars and _is_live()):
            yield SilentObserver()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(),
        )
        # Results are printed on stdout while the bar is shown. They must not be redirected to the bar's stderr.
        with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
            yield _TerminalBar(progress, progress.add_task(visible(what), total=total, rate=""), unit)

    @contextmanager
    def training(self, training: TrainingProgress) -> Iterator[TrainingObserver]:
        """Show losses and scores in a live view, or print them in lines."""
        if not _is_live():
            lines = Lines(training, self._lines, print_note)
            yield lines
            lines.close()
            return
        from rich.console import Console
        from rich.live import Live

        from labeldep_cli.cli.view import View

        view = View(training)
        with Live(view, console=Console(stderr=True), refresh_per_second=2, transient=True):
            yield view


def _is_live() -> bool:
    """Whether stderr is a terminal that can be redrawn, and this process is the one that prints."""
    return torchrun.rank() == 0 and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _TerminalBar:
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


def json_line(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """A JSON object or list on one line, without a line end."""
    return json_text(value)


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> None:
    """Print a table on stdout. The first `text` columns are left-aligned, the others right-aligned.

    Of names that are longer than a line, the end is left out.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    def text_of(cell: str) -> Text:
        return Text(visible(cell, file_bytes=True))  # as Text: "[dim]" in a name is no markup

    if title:
        print_line(title)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    grid = [list(map(text_of, row)) for row in (header, *rows)]
    widths = [max(cell.cell_len for cell in column) for column in zip(*grid, strict=True)]
    room = max(_COLUMNS - sum(widths[text:]) - 3 * len(widths), text) // max(text, 1)
    longest = room if sum(widths) + 3 * len(widths) > _COLUMNS else None
    for k, name in enumerate(grid[0]):
        justify: Literal["left", "right"] = "left" if k < text else "right"
        table.add_column(name, justify=justify, no_wrap=True, max_width=longest if k < text else None)
    for row_of_texts in grid[1:]:
        table.add_row(*row_of_texts)
    Console(width=_COLUMNS).print(table)


def print_error(error: LabeldepError) -> None:
    """Print an error on stderr, with the number of the process under torchrun, and below it the remedy."""
    print_line(f"error{f' in process {torchrun.rank()}' if torchrun.rank() else ''}: {error.what}", err=True)
    for line in error.remedy.split("\n") if error.remedy else ():
        print_line(f"       {line}", err=True)


def name_skipped(skipped: Sequence[Skipped]) -> None:
    """Name skipped and missing inputs on stderr."""
    for title, items in (
        ("skipped", [item for item in skipped if not item.missing]),
        ("missing", [item for item in skipped if item.missing]),
    ):
        for item in items[:LISTED]:
            print_note(f"{title}: {item.path}: {item.reason}")
        if len(items) > LISTED:
            print_note(f"{title}: and {len(items) - LISTED} more (--json lists all)")
