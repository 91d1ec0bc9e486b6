"""`labeldep extract`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import passed_on, print_next
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line
from labeldep_cli.cli.torchrun import exit_code
from labeldep_cli.config import ExtractConfig, Machine, Source, Workspace


def extract(
    ctx: typer.Context,
    *,
    source: Source,
    split: Annotated[
        flags.SplitName | None,
        typer.Option(help="Split to extract; all if not given.", rich_help_panel=flags.WHAT),
    ] = None,
    config: flags.Config = None,
    settings: ExtractConfig,
    workspace: Annotated[Workspace, Take(without=("runs_dir",))],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the cached features; the same as --features-dir.", rich_help_panel=flags.WHERE),
    ] = None,
    machine: Annotated[Machine, Take(without=("max_memory",))],
    fresh: flags.Fresh = False,
    json: flags.Json = False,
) -> None:
    """Run the frozen backbone over a data set and cache the features in HDF5."""
    from labeldep_cli.pipelines.extract import extract as run

    workspace = replace(workspace, features_dir=out or workspace.features_dir)
    extraction = run(workspace, source, machine, settings, split, fresh, Terminal())
    if json:
        print_json(extraction.to_json())
    else:
        for file in extraction.files:
            regions = f" x {file.regions}" if settings.spatial else ""
            print_line(f"{file.path}: {file.rows} rows x {file.views}{regions} x {file.width}")
        if extraction.images_per_second:
            print_line(f"{extraction.images_per_second:.1f} images per second")
    name_skipped(extraction.skipped)
    # Features of regions need a head that reads regions; the flags do not say which one.
    values = {**passed_on(ctx, source, workspace, machine), "head": "ml-decoder" if settings.spatial else None}
    print_next(ctx, "pretrain", values=values, json=json)
    raise typer.Exit(exit_code(bool(extraction.skipped)))
