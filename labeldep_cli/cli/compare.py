"""`labeldep compare`."""

from __future__ import annotations

from typing import Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import given, say_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, print_json, print_table
from labeldep_cli.config import Machine, ReportConfig, RunWorkspace

_SHOWN = ("CF1", "OF1", "exact_match")
"""Of the differences, what fits a terminal; --json has them all."""


def compare(
    ctx: typer.Context,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN RUN...", help="Folders or names; all beside the first.", autocompletion=complete.run
        ),
    ],
    *,
    options: Annotated[ReportConfig, Take("split", "seed", help={"seed": "Seed of the resampling."})],
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Take the difference between runs apart: what is left of it once a threshold has done its part?"""
    from labeldep_cli.evaluation.bootstrap import LEVEL
    from labeldep_cli.pipelines.compare import compare as run

    found = run(scoped(ctx, run_workspace), runs, machine, options.split, options.seed, Terminal())
    if json:
        print_json(found.to_json())
        return
    typer.echo(
        f"{found.n_images} images of {found.dataset}, {options.split}; differences in points from {found.reference}, "
        f"{LEVEL:g} % intervals; equal labels: {found.labels_per_image:.2f} an image, as val truly has"
    )
    for one in found.differences:
        rows = [
            [rule, *(metrics[name].text for name in _SHOWN), f"{one.labels_per_image[rule]:.2f}"]
            for rule, metrics in one.sets.items()
        ]
        print_table(str(one.run), ["decision", "CF1", "OF1", "exact match", "labels"], rows)
        typer.echo(f"mAP {one.ranking.text}. {one.verdict}")
    say_next(ctx, "report", *runs, values={**given(ctx, run_workspace, machine), "split": options.split})
