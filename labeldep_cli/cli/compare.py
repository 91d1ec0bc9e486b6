"""`labeldep compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import passed_on, print_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_table
from labeldep_cli.config import Machine, ReportConfig, RunWorkspace

_SHOWN = ("CF1", "OF1", "exact_match")
"""The scores whose differences fit on a terminal; --json has all."""


def compare(
    ctx: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...",
            help="Runs to compare: folders, names or stages; each is compared with the first.",
            autocompletion=complete.run,
        ),
    ],
    *,
    options: Annotated[ReportConfig, Take("split", "seed", help={"seed": "Seed of the resampling."})],
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Compare runs, and separate what a threshold gives from what is left of the difference."""
    from labeldep_cli.evaluation.bootstrap import LEVEL
    from labeldep_cli.pipelines.compare import compare as run
    from labeldep_cli.reports import tables

    comparison = run(scoped(ctx, run_workspace), runs, machine, options.split, options.seed, Terminal())
    if json:
        print_json(comparison.to_json())
        return
    print_line(
        f"{comparison.n_images} images of {comparison.dataset}, {options.split}; differences in points from "
        f"{comparison.reference}, {LEVEL:g} % intervals; equal labels: {comparison.labels_per_image:.2f} an image, "
        "as in the true labels of val"
    )
    for difference in comparison.differences:
        rows = [
            [rule, *(metrics[name].text for name in _SHOWN), f"{difference.labels_per_image[rule]:.2f}"]
            for rule, metrics in difference.sets.items()
        ]
        print_table(str(difference.run), ["decision", "CF1", "OF1", "exact match", "labels"], rows)
        if by_seen := tables.exact_by_seen(difference.by_seen):
            print_table("exact match, where the true label set", *by_seen)
        elif not difference.by_seen:
            print_line("seen and unseen label sets: unknown, since a run has no record of the sets it was trained on")
        print_line(f"mAP {difference.ranking.text}. {difference.verdict}")
    print_next(ctx, "report", *runs, values={**passed_on(ctx, run_workspace, machine), "split": options.split})
