"""`labeldep dependency`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import name_of, passed_on, print_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_table
from labeldep_cli.config import DecisionConfig, Machine, ReportConfig, RunWorkspace

if TYPE_CHECKING:
    from labeldep_cli.pipelines.dependency import DependencyReport

SHOWN_PAIRS = 10


def dependency(
    ctx: typer.Context,
    run: flags.Run = None,
    *,
    options: Annotated[
        ReportConfig,
        Take(
            "split",
            "seed",
            help={"split": "Split of the data set to measure on.", "seed": "Seed of the sampled sets and of the test."},
        ),
    ],
    decision: Annotated[DecisionConfig, Take(without=("ap",))],
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Measure how a run's label sets differ from real ones: pairs, sizes, sets that training does not have."""
    from labeldep_cli.pipelines.dependency import dependency as measure

    report = measure(scoped(ctx, run_workspace), run, machine, decision, options.split, options.seed, Terminal())
    if json:
        print_json(report.to_json())
    else:
        _print(report)
        print_next(
            ctx,
            "report",
            run or name_of(Path(report.folder), run_workspace.runs_dir),
            values={**passed_on(ctx, run_workspace, machine), "split": options.split},
        )


def _print(report: DependencyReport) -> None:
    from labeldep_cli.reports import tables

    print_line(
        f"{report.folder} on {report.dataset}, {report.split}: {report.dependency.n_images} images, all labels known"
    )
    header = ["sets", "lift error", "size distance", "unseen pairs", "unseen sets", "p"]
    rows = tables.dependency_rows(report.decision, report.dependency.to_json())
    print_table("", header, rows)
    print_line(
        "lift error: mean |ln lift - ln real lift|; size distance: total variation, 0 to 1; unseen: in no training"
    )
    print_line("image; p: chance of so large a difference if real and predicted sets were alike (small: they differ).")
    pairs = [
        [" + ".join(pair.labels), f"{pair.excess:+.1f}", str(pair.real), f"{pair.expected:.1f}", str(pair.predicted)]
        for pair in report.dependency.pairs[:SHOWN_PAIRS]
    ]
    print_table(
        "largest excess: what p(label | image) does not explain",
        ["labels", "excess", "real", "expected", "decided"],
        pairs,
    )
    if report.dependency.labels_left_out:
        print_line(f"pairs of the {report.dependency.labels_left_out} rarest labels are not listed; all count above")
    print_line(tables.protocol(report.split, report.provenance))
