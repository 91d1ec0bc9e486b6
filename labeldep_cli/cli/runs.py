"""`labeldep runs`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import print_next
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_note, print_table
from labeldep_cli.config import RunWorkspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.runs.cleaning import CleaningRequest, Removal
    from labeldep_cli.runs.listing import RunRow


def runs(
    ctx: typer.Context,
    action: Annotated[
        Literal["list", "clean"],
        typer.Argument(help="list: show the runs; clean: remove files that are no longer needed."),
    ] = "list",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="clean: remove these runs with all their files.",
            autocompletion=complete.any_run,
            show_default=False,
        ),
    ] = None,
    *,
    unfinished: Annotated[
        bool,
        typer.Option("--unfinished", help="clean: remove unfinished runs too.", rich_help_panel=flags.WHAT),
    ] = False,
    last: Annotated[
        bool,
        typer.Option(
            "--last",
            help="clean: remove last.safetensors of finished runs too; of the named RUNs only that file.",
            rich_help_panel=flags.WHAT,
        ),
    ] = False,
    yes: flags.Yes = False,
    run_workspace: Annotated[RunWorkspace, Take("runs_dir")],
    json: flags.Json = False,
) -> None:
    """List the runs with their scores on val, newest first, or remove what is no longer needed."""
    runs_dir = run_workspace.runs_dir
    if action == "clean":
        _clean(runs_dir, tuple(names or ()), unfinished, last, yes, json)
        return
    for value, flag in ((names, "RUN"), (unfinished, "--unfinished"), (last, "--last"), (yes, "--yes")):
        if value:
            raise typer.BadParameter("is only for: labeldep runs clean", param_hint=flag)
    from labeldep_cli.runs.listing import list_runs

    rows = list_runs(runs_dir, Terminal())
    if json:
        print_json({"runs_dir": str(runs_dir), "runs": [row.to_json() for row in rows]})
    elif rows:
        _print(rows)
        _print_next(ctx, rows[0], runs_dir)
    else:
        print_note(f"there are no runs in {runs_dir} yet: labeldep adversarial --dataset DATASET trains one")


def _print_next(ctx: typer.Context, newest: RunRow, runs_dir: Path) -> None:
    """The command that scores the newest run, or the one that trains it to its end."""
    if newest.state == "finished":
        print_next(ctx, "eval", newest.name, values={"runs_dir": runs_dir})
    elif newest.state != "training":
        command = "pretrain" if newest.stage == "pretrain" else "adversarial"
        print_next(ctx, command, values={"config": str(newest.run / "config.json"), "out": str(newest.run)})


def _print(rows: list[RunRow]) -> None:
    from labeldep_cli.reports.tables import number
    from labeldep_cli.runs.listing import SCORES, format_started

    header = ["run", "data set", "backbone", "stage", "critic", "state"]
    cells = [
        [
            row.name,
            row.dataset,
            f"{row.backbone or '-'}{' full' if row.full else ''}",
            row.stage,
            row.critic or "-",
            row.state,
            f"{row.step:,}" if row.state == "finished" else f"{row.step:,} of {row.steps:,}",
            *(number(row.val[name] if row.val else None) for name in SCORES),
            format_size(row.bytes),
            format_started(datetime.fromisoformat(row.started)),
        ]
        for row in rows
    ]
    print_table("", [*header, "steps", "mAP", "CF1", "OF1", "exact", "size", "started"], cells, text=len(header))
    print_line("scores on val at p > 0.5, of the best evaluation; on test: labeldep eval RUN")


def _clean(runs_dir: Path, names: tuple[str, ...], unfinished: bool, last: bool, yes: bool, json: bool) -> None:
    if names and unfinished:
        raise typer.BadParameter("named runs are removed in any state: leave it out", param_hint="--unfinished")
    from labeldep_cli.runs.cleaning import CleaningRequest, find_removals

    request = CleaningRequest(names, unfinished, last)
    removals = find_removals(runs_dir, request)
    if not json:
        _print_removals(removals, runs_dir)
    asks = not yes and not json and sys.stdin.isatty() and sys.stderr.isatty()
    free = [removal for removal in removals if not removal.in_use]
    confirmed = yes or (asks and bool(free) and typer.confirm("Remove them?", err=True))
    removed = _remove(free, request) if confirmed else []
    if json:
        items = [{**removal.to_json(), "removed": removal in removed} for removal in removals]
        print_json({"runs_dir": str(runs_dir), "items": items})
    elif removals and not confirmed:
        print_note("nothing was removed" + ("" if asks else ": add --yes"))


def _print_removals(removals: list[Removal], runs_dir: Path) -> None:
    if not removals:
        print_note(f"nothing to clean in {runs_dir}")
        return
    cells = [
        [
            str(removal.folder),
            "kept: in use" if removal.in_use else removal.why,
            ", ".join(path.name for path in removal.files) or "the empty folder",
            format_size(removal.bytes),
        ]
        for removal in removals
    ]
    print_table("", ["run", "why", "files", "size"], cells, text=3)


def _remove(removals: list[Removal], request: CleaningRequest) -> list[Removal]:
    """Remove files, note what happened to each run, and return the removals that were done."""
    from labeldep_cli.runs.cleaning import remove

    removed = []
    for removal in removals:
        if remove(removal, request):
            removed.append(removal)
            print_note(f"removed: {removal.folder}: {removal.why}")
        else:
            print_note(f"kept: {removal.folder} is in use, or has changed in the meantime")
    return removed
