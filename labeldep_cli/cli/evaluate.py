"""`labeldep eval`."""

from __future__ import annotations

import typing
from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.config import DecisionConfig, Machine, Place, Workspace


def evaluate(
    run: flags.Run = None,
    split: Annotated[
        flags.SplitName, typer.Option(help="Split of the run's data set.", rich_help_panel=flags.WHAT)
    ] = "test",
    weights: flags.RunWeights = None,
    decision: flags.Decision = DecisionConfig.rule,
    beta: flags.CriticWeight = DecisionConfig.beta,
    threshold: flags.Threshold = DecisionConfig.threshold,
    top_k: flags.TopK = DecisionConfig.top_k,
    non_empty: flags.NonEmpty = DecisionConfig.non_empty,
    ap: Annotated[
        typing.Literal["step", "voc"],
        typer.Option(
            help="Average precision: scikit-learn's steps, or interpolated as VOC's.", rich_help_panel=flags.HOW
        ),
    ] = DecisionConfig.ap,
    per_label: Annotated[
        bool, typer.Option("--per-label", help="A row a label too.", rich_help_panel=flags.OUTPUT)
    ] = False,
    data_dir: flags.MovedData = Place.data_dir,
    runs_dir: flags.RunsDir = Workspace.runs_dir,
    features_dir: flags.FeaturesDir = Workspace.features_dir,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    max_skipped: flags.MaxSkipped = Machine.max_skipped,
    max_memory: flags.MaxMemory = Machine.max_memory,
    json: flags.Json = False,
) -> None:
    """Score a run on a split of its own data set."""
    from labeldep_cli.pipelines.evaluate import evaluate_run
    from labeldep_cli.reports import tables

    place = Place(runs_dir, data_dir, features_dir)
    asked = DecisionConfig(decision, beta, threshold, top_k, non_empty, ap)
    machine = Machine(device, workers, max_skipped, max_memory)
    moved = str(weights) if weights else None
    found = evaluate_run(place, run, machine, asked, split, moved, Terminal())
    record = found.to_json()
    if json:
        print_json(record)
    else:
        title = f"{found.folder} on {found.dataset}, {split}: {record['n_images']} images, {record['n_labels']} labels"
        rule = tables.decision(record["decision"])
        print_table(f"{title}; {rule}", tables.SUMMARY, [tables.summary(record)], text=0)
        typer.echo(f"true labels an image: {record['true_labels_per_image']:.2f}")
        if record["skipped_labels"]:
            typer.echo(
                f"labels that never occur in this split, left out of the per-class means: {record['skipped_labels']}"
            )
        typer.echo(tables.protocol(split, record["provenance"]))
        if per_label:
            print_table("", ["label", "precision", "recall", "f1", "AP", "images"], tables.per_label(record))
    name_skipped(found.skipped)
    raise typer.Exit(3 if found.looked and found.skipped else 0)
