"""`labeldep reproduce`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line, print_table
from labeldep_cli.config import Machine, ReproduceConfig, Source, Workspace

if TYPE_CHECKING:
    from labeldep_cli.reproduction.plan import Plan


def reproduce(
    out: Annotated[Path, typer.Option(help="Folder for runs, tables and gallery.", rich_help_panel=flags.WHERE)],
    *,
    source: Annotated[Source, Take(without=("backbone",))],
    config: ReproduceConfig,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Print only the networks to train, their cost and disk space.", rich_help_panel=flags.HOW
        ),
    ] = False,
    workspace: Annotated[Workspace, Take(without=("runs_dir",))],
    machine: Annotated[Machine, Take(without=("max_memory",))],
    json: flags.Json = False,
) -> None:
    """Reproduce the paper's tables: baseline, control, + WGAN-gp, ablations and rival methods, over several seeds."""
    workspace = replace(workspace, runs_dir=out / "runs")
    if plan:
        from labeldep_cli.pipelines.reproduce import plan as make_plan

        _show_plan(make_plan(workspace, source, machine, config, out, Terminal()), json)
        return
    _run(workspace, source, machine, config, out, json)


def _run(
    workspace: Workspace, source: Source, machine: Machine, config: ReproduceConfig, out: Path, json: bool
) -> None:
    from labeldep_cli.pipelines.reproduce import reproduce as run
    from labeldep_cli.reports import reproduction

    reproduced = run(workspace, source, machine, config, out, Terminal(lines=0))
    if json:
        print_json(reproduced.to_json())
    else:
        for record in reproduced.tables.values():
            for title, grid, notes in (
                (reproduction.caption(record), reproduction.score_grid(record), reproduction.notes(record)),
                (reproduction.GAIN, reproduction.gain_grid(record), reproduction.gain_notes(record)),
            ):
                print_table(title, grid[0], grid[1:], text=2)
                for sentence in notes:
                    print_line(sentence)
        for path in reproduced.files:
            print_line(f"written: {path}")
    name_skipped(reproduced.skipped)
    raise typer.Exit(ExitCode.of(bool(reproduced.skipped)))


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
        [str(c.path), "cached" if c.exists else "to extract", f"{c.images:,} x {c.views}", f"{c.megabytes:,.1f}"]
        for c in plan.caches
    ]
    if caches:
        print_table("", ["features", "", "images x views", "MB"], caches, text=2)
    for left in record["left_out"]:
        print_line(f"left out: {left['row']}: {left['reason']}")
    print_line(
        f"{record['trainings']} trainings, {record['finished']} of them finished: {record['generator_updates']:,} "
        f"updates of G and {record['critic_updates']:,} of D in all; {record['images_to_extract']:,} images to extract."
    )
    features, checkpoints = record["cache_megabytes"], record["checkpoint_megabytes"]
    print_line(f"Disk: {features:,.1f} MB of features, {checkpoints:,.1f} MB of checkpoints.")
