"""`labeldep report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json
from labeldep_cli.config import Machine, Place, ReportConfig, Workspace
from labeldep_cli.files import size_told

if TYPE_CHECKING:
    from labeldep_cli.pipelines.report import Report


def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Folders or names; all beside the first.", autocompletion=complete.run),
    ],
    out: Annotated[Path, typer.Option(help="The page's file.", rich_help_panel=flags.OUTPUT)] = ReportConfig.out,
    split: Annotated[
        flags.SplitName, typer.Option(help="Split of the runs' data set.", rich_help_panel=flags.WHAT)
    ] = ReportConfig.split,
    seed: Annotated[
        int, typer.Option(min=0, help="Of the resampling and of sampled sets.", rich_help_panel=flags.HOW)
    ] = ReportConfig.seed,
    data_dir: flags.MovedData = Place.data_dir,
    runs_dir: flags.RunsDir = Workspace.runs_dir,
    features_dir: flags.FeaturesDir = Workspace.features_dir,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    max_skipped: flags.MaxSkipped = Machine.max_skipped,
    max_memory: flags.MaxMemory = Machine.max_memory,
    json: flags.Json = False,
) -> None:
    """Write one HTML page about one run or several: scores, curves, labels, pairs, training, images."""
    from labeldep_cli.pipelines.report import report as write

    place, machine = Place(runs_dir, data_dir, features_dir), Machine(device, workers, max_skipped, max_memory)
    found = write(place, runs, machine, split, seed, out, Terminal())
    if json:
        print_json(found.to_json())
    else:
        _print(found)
    name_skipped((*found.skipped, *found.unreadable))
    raise typer.Exit(3 if (found.looked and found.skipped) or found.unreadable else 0)


def _print(found: Report) -> None:
    named = ", ".join(f"{letter} {Path(folder).name}" for letter, folder in found.runs.items())
    rows = f"{found.n_images} images of {found.dataset}, {found.split}"
    typer.echo(f"{found.file}: {size_told(found.size)}, {rows}; {named}")
    if found.n_choosable < found.n_images:
        typer.echo(f"{found.n_choosable} of them can be looked at one by one: more would make the page too large")
