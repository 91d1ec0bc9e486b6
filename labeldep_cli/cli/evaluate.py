"""`labeldep eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import name_of, passed_on, print_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line, print_table
from labeldep_cli.config import DecisionConfig, Machine, ReportConfig, RunWorkspace


def evaluate(
    ctx: typer.Context,
    run: flags.Run = None,
    *,
    options: Annotated[ReportConfig, Take("split", help={"split": "Split of the data set to score."})],
    weights: flags.RunWeights = None,
    decision: DecisionConfig,
    per_label: Annotated[
        bool, typer.Option("--per-label", help="Print the scores of each label too.", rich_help_panel=flags.OUTPUT)
    ] = False,
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Score a run on a split of its data set, or of another one."""
    from labeldep_cli.pipelines.evaluate import evaluate_run
    from labeldep_cli.reports import tables

    moved = str(weights) if weights else None
    evaluation = evaluate_run(scoped(ctx, run_workspace), run, machine, decision, options.split, moved, Terminal())
    record = evaluation.to_json()
    if json:
        print_json(record)
    else:
        split = f"{evaluation.folder} on {evaluation.dataset}, {options.split}"
        counts = f"{record['n_images']} images, {record['n_labels']} labels"
        rule = tables.decision(record["decision"])
        print_table(f"{split}: {counts}; {rule}", tables.SUMMARY, [tables.summary(record)], text=0)
        print_line(f"true labels an image: {record['true_labels_per_image']:.2f}")
        if record["skipped_labels"]:
            print_line(
                f"labels that never occur in this split, left out of the per-class means: {record['skipped_labels']}"
            )
        for line in tables.confidence(record["confidence"]):
            print_line(line)
        print_line(tables.protocol(options.split, record["provenance"]))
        if per_label:
            print_table("", ["label", "precision", "recall", "f1", "AP", "images"], tables.per_label(record))
    name_skipped(evaluation.skipped)
    print_next(
        ctx,
        "report",
        run or name_of(Path(evaluation.folder), run_workspace.runs_dir),
        values={**passed_on(ctx, run_workspace, machine), "split": options.split},
        json=json,
    )
    raise typer.Exit(ExitCode.of(evaluation.images_read and bool(evaluation.skipped)))
