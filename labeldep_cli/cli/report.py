"""`labeldep report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.next_command import given, say_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, name_skipped, print_json
from labeldep_cli.config import Machine, ReportConfig, RunWorkspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.pipelines.report import Report


def report(
    ctx: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders or names; all beside the first.", autocompletion=complete.run),
    ],
    *,
    options: ReportConfig,
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Write one HTML page about one run or several: scores, curves, labels, pairs, training, images."""
    from labeldep_cli.pipelines.report import report as write

    found = write(scoped(ctx, run_workspace), runs, machine, options.split, options.seed, options.out, Terminal())
    if json:
        print_json(found.to_json())
    else:
        _print(found)
    name_skipped((*found.skipped, *found.unreadable))
    say_next(ctx, "export", runs[-1], values=given(ctx, run_workspace), json=json)
    raise typer.Exit(ExitCode.of(bool((found.images_read and found.skipped) or found.unreadable)))


def _print(found: Report) -> None:
    named = ", ".join(f"{letter} {Path(folder).name}" for letter, folder in found.runs.items())
    rows = f"{found.n_images} images of {found.dataset}, {found.split}"
    typer.echo(f"{found.file}: {format_size(found.size)}, {rows}; {named}")
    if found.n_choosable < found.n_images:
        typer.echo(f"{found.n_choosable} of them can be looked at one by one: more would make the page too large")
