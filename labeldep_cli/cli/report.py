"""`labeldep report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.next_command import passed_on, print_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line
from labeldep_cli.config import Machine, ReportConfig, RunWorkspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.pipelines.report import Report


def report(
    ctx: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Runs to show: folders, names or stages; each is compared with the first.",
            autocompletion=complete.run,
        ),
    ],
    *,
    options: ReportConfig,
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Write an HTML page about one or more runs: scores, curves, labels, pairs, training, images."""
    from labeldep_cli.pipelines.report import report as write

    page = write(scoped(ctx, run_workspace), runs, machine, options.split, options.seed, options.out, Terminal())
    if json:
        print_json(page.to_json())
    else:
        _print(page)
    name_skipped((*page.skipped, *page.unreadable))
    print_next(ctx, "audit", runs[0], values=passed_on(ctx, run_workspace), json=json)
    raise typer.Exit(ExitCode.of(bool((page.images_read and page.skipped) or page.unreadable)))


def _print(page: Report) -> None:
    names = ", ".join(f"{letter} {Path(folder).name}" for letter, folder in page.runs.items())
    rows = f"{page.n_images} images of {page.dataset}, {page.split}"
    print_line(f"{page.file}: {format_size(page.size)}, {rows}; {names}")
    if page.n_choosable < page.n_images:
        print_line(f"{page.n_choosable} of them can be selected on the page: more would make it too large")
