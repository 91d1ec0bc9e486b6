"""`labeldep extract`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json
from labeldep_cli.cli.torchrun import exit_code
from labeldep_cli.config import ExtractConfig, Machine, Precision, Source, Workspace


def extract(
    dataset: flags.Dataset = Source.dataset,
    backbone: flags.BackboneName = Source.backbone,
    weights: flags.WeightsSpec = Source.weights,
    split: Annotated[
        flags.SplitName | None, typer.Option(help="One split; all if not given.", rich_help_panel=flags.WHAT)
    ] = None,
    views: Annotated[
        flags.Views,
        typer.Option(help="21: every crop of the training augmentation, for train.", rich_help_panel=flags.HOW),
    ] = "1",
    spatial: Annotated[
        bool,
        typer.Option(
            "--spatial",
            help="The last feature map's regions, for --head att-rnn, rlsd, ml-decoder.",
            rich_help_panel=flags.HOW,
        ),
    ] = ExtractConfig.spatial,
    precision: Annotated[
        Precision,
        typer.Option(
            help="What the backbone computes in; auto: as the caches that are there, else float16 on a GPU, "
            "float32 on a CPU.",
            rich_help_panel=flags.HOW,
        ),
    ] = ExtractConfig.precision,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Compile the backbone first: takes up to a minute, pays for large data sets.",
            rich_help_panel=flags.HOW,
        ),
    ] = ExtractConfig.compile,
    draft: Annotated[
        bool | None,
        typer.Option(
            "--draft/--no-draft",
            help="Decode large JPEGs at reduced scale, never below the side that is wanted; "
            "if not given, as for the caches that are there, else no.",
            rich_help_panel=flags.HOW,
        ),
    ] = ExtractConfig.draft,
    val_fraction: flags.ValFraction = Source.val_fraction,
    test_fraction: flags.TestFraction = Source.test_fraction,
    split_seed: flags.SplitSeed = Source.split_seed,
    config: flags.Config = None,
    data_dir: flags.DataDir = Workspace.data_dir,
    features_dir: flags.FeaturesDir = Workspace.features_dir,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the caches; the same as --features-dir.", rich_help_panel=flags.WHERE)
    ] = None,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    max_skipped: flags.MaxSkipped = Machine.max_skipped,
    fresh: flags.Fresh = False,
    json: flags.Json = False,
) -> None:
    """Run the frozen backbone once over a data set and cache its features in HDF5."""
    from labeldep_cli.pipelines.extract import extract as run

    workspace = Workspace(data_dir, features_dir=out or features_dir)
    source = Source(dataset, backbone, weights, val_fraction, test_fraction, split_seed)
    machine = Machine(device, workers, max_skipped)
    seen = ExtractConfig(int(views), spatial, precision, compile_, draft)
    extraction = run(workspace, source, machine, seen, split, fresh, Terminal())
    if json:
        print_json(extraction.to_json())
    else:
        for file in extraction.files:
            regions = f" x {file.regions}" if spatial else ""
            typer.echo(f"{file.path}: {file.rows} rows x {file.views}{regions} x {file.width}")
        if extraction.images_per_second:
            typer.echo(f"{extraction.images_per_second:.1f} images a second")
    name_skipped(extraction.skipped)
    raise typer.Exit(exit_code(bool(extraction.skipped)))
