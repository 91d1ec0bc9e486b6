"""`labeldep reproduce`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.config import DEFAULT_BACKBONE, Machine, ReproduceConfig, Source, Workspace

if TYPE_CHECKING:
    from labeldep_cli.reproduction.plan import Plan


def _numbers(text: str) -> tuple[int, ...]:
    """The tables out of "1,3"."""
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 1,3", param_hint="--tables") from None


def reproduce(
    out: Annotated[Path, typer.Option(help="Folder of runs, tables and gallery.", rich_help_panel=flags.WHERE)],
    dataset: flags.Dataset = Source.dataset,
    tables: Annotated[
        str | None,
        typer.Option(
            help="Of 1 (COCO, or your data), 2 (NUS-WIDE), 3 (ablations): 1,3; all that fit the data set if not given.",
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    backbones: Annotated[
        str | None,
        typer.Option(
            help=f"A list: resnet101,vgg16 (default: {DEFAULT_BACKBONE}). Rivals and Table 3 take the first.",
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, help="Networks a row: seeds 0, 1, ...", rich_help_panel=flags.WHAT)
    ] = ReproduceConfig.seeds,
    rivals: Annotated[
        bool, typer.Option("--rivals/--no-rivals", help="WARP, CNN-RNN, Att-RNN, RLSD.", rich_help_panel=flags.WHAT)
    ] = ReproduceConfig.rivals,
    companions: Annotated[
        bool,
        typer.Option(
            "--companions",
            help="Rows of today's strong ones too: ASL, focal loss, ML-Decoder, GCN, with control and critic.",
            rich_help_panel=flags.WHAT,
        ),
    ] = ReproduceConfig.companions,
    test_time: Annotated[
        bool,
        typer.Option("--test-time/--no-test-time", help="A critic at test time too.", rich_help_panel=flags.WHAT),
    ] = ReproduceConfig.test_time,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only tell rows, cost and disk.", rich_help_panel=flags.HOW)
    ] = False,
    weights: flags.WeightsSpec = Source.weights,
    val_fraction: flags.ValFraction = Source.val_fraction,
    test_fraction: flags.TestFraction = Source.test_fraction,
    split_seed: flags.SplitSeed = Source.split_seed,
    full: flags.Full = ReproduceConfig.full,
    epochs: flags.Epochs = ReproduceConfig.epochs,
    steps: flags.Steps = ReproduceConfig.steps,
    batch_size: flags.BatchSize = ReproduceConfig.batch_size,
    lr: flags.LearningRate = ReproduceConfig.lr,
    hidden: flags.Hidden = ReproduceConfig.hidden,
    data_dir: flags.DataDir = Workspace.data_dir,
    features_dir: flags.FeaturesDir = Workspace.features_dir,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    max_skipped: flags.MaxSkipped = Machine.max_skipped,
    json: flags.Json = False,
) -> None:
    """Make the paper's tables on a data set: baseline, control, + WGAN-gp, ablations, rivals, over several seeds."""
    asked = ReproduceConfig(
        tables=None if tables is None else _numbers(tables),
        backbones=tuple(name.strip() for name in (backbones or "").split(",") if name.strip()),
        seeds=seeds,
        rivals=rivals,
        companions=companions,
        test_time=test_time,
        full=full,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        hidden=hidden,
    )
    source = Source(dataset, None, weights, val_fraction, test_fraction, split_seed)
    workspace, machine = Workspace(data_dir, out / "runs", features_dir), Machine(device, workers, max_skipped)
    if plan:
        from labeldep_cli.pipelines.reproduce import plan as reckon

        _show_plan(reckon(workspace, source, machine, asked, out, Terminal()), json)
        return
    _run(workspace, source, machine, asked, out, json)


def _run(workspace: Workspace, source: Source, machine: Machine, asked: ReproduceConfig, out: Path, json: bool) -> None:
    from labeldep_cli.pipelines.reproduce import reproduce as run
    from labeldep_cli.reports import reproduction

    found = run(workspace, source, machine, asked, out, Terminal(lines=0))
    if json:
        print_json(found.to_json())
    else:
        for record in found.tables.values():
            for title, grid, notes in (
                (reproduction.caption(record), reproduction.score_grid(record), reproduction.notes(record)),
                (reproduction.GAIN, reproduction.gain_grid(record), reproduction.gain_notes(record)),
            ):
                print_table(title, grid[0], grid[1:], text=2)
                for sentence in notes:
                    typer.echo(sentence)
        for path in found.files:
            typer.echo(f"written: {path}")
    name_skipped(found.skipped)
    raise typer.Exit(3 if found.skipped else 0)


def _show_plan(plan: Plan, json: bool) -> None:
    record = plan.to_json()
    if json:
        print_json(record)
        return
    rows = [
        [
            row.title,
            ", ".join(map(str, row.tables)) or "-",
            *(f"{n:,}" for n in (row.trainings, row.finished, row.generator_updates, row.critic_updates)),
            str(row.batch_size),
            f"{row.megabytes:,.1f}",
        ]
        for row in plan.rows
    ]
    header = ["network", "tables", "trainings", "finished", "G updates", "D updates", "batch", "MB"]
    print_table("", header, rows, text=2)
    caches = [
        [str(c.path), "there" if c.exists else "to extract", f"{c.images:,} x {c.views}", f"{c.megabytes:,.1f}"]
        for c in plan.caches
    ]
    if caches:
        print_table("", ["features", "", "images x views", "MB"], caches, text=2)
    for left in record["left_out"]:
        typer.echo(f"left out: {left['row']}: {left['reason']}")
    typer.echo(
        f"{record['trainings']} trainings, {record['finished']} of them finished: {record['generator_updates']:,} "
        f"updates of G and {record['critic_updates']:,} of D in all; {record['images_to_extract']:,} images to extract."
    )
    features, checkpoints = record["cache_megabytes"], record["checkpoint_megabytes"]
    typer.echo(f"Disk: {features:,.1f} MB of features, {checkpoints:,.1f} MB of checkpoints.")
