"""`labeldep runs`."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import say_next
from labeldep_cli.cli.show import Terminal, print_json, print_table, tell
from labeldep_cli.config import RunWorkspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.runs.cleaning import CleaningRequest, Removal
    from labeldep_cli.runs.listing import RunRow


def runs(
    ctx: typer.Context,
    action: Annotated[
        Literal["list", "clean"], typer.Argument(help="list them, or clean: remove what can go.")
    ] = "list",
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN",
            help="With clean: remove these runs, whole.",
            autocompletion=complete.any_run,
            show_default=False,
        ),
    ] = None,
    *,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished", help="clean: also runs that have not come to their end.", rich_help_panel=flags.WHAT
        ),
    ] = False,
    last: Annotated[
        bool,
        typer.Option(
            "--last",
            help="clean: also last.safetensors of finished runs (of the RUNs, if named, and nothing else of them).",
            rich_help_panel=flags.WHAT,
        ),
    ] = False,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="clean: remove without asking; without it, a script only gets the list.",
            rich_help_panel=flags.HOW,
        ),
    ] = False,
    run_workspace: Annotated[RunWorkspace, Take("runs_dir")],
    json: flags.Json = False,
) -> None:
    """List the runs with their scores on val, the newest first; or clean up after them."""
    runs_dir = run_workspace.runs_dir
    if action == "clean":
        _clean(runs_dir, tuple(names or ()), unfinished, last, yes, json)
        return
    for given, flag in ((names, "RUN"), (unfinished, "--unfinished"), (last, "--last"), (yes, "--yes")):
        if given:
            raise typer.BadParameter("goes with: labeldep runs clean", param_hint=flag)
    from labeldep_cli.runs.listing import list_runs

    rows = list_runs(runs_dir, Terminal())
    if json:
        print_json({"runs_dir": str(runs_dir), "runs": [row.to_json() for row in rows]})
    elif rows:
        _print(rows)
        newest = next((row.name for row in rows if row.state != "no checkpoint"), None)
        if newest is not None:
            say_next(ctx, "eval", newest, values={"runs_dir": runs_dir})
    else:
        tell(f"there is no run in {runs_dir} yet: labeldep adversarial --dataset DATASET trains one")


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
    print_table("", [*header, "steps", "mAP", "CF1", "OF1", "exact", "size", "begun"], cells, text=len(header))
    typer.echo("scores on val at p > 0.5, of the best evaluation; on test: labeldep eval RUN")


def _clean(runs_dir: Path, names: tuple[str, ...], unfinished: bool, last: bool, yes: bool, json: bool) -> None:
    if names and unfinished:
        raise typer.BadParameter("the runs that are named go whole: leave it out", param_hint="--unfinished")
    from labeldep_cli.runs.cleaning import CleaningRequest, find_removals

    wanted = CleaningRequest(names, unfinished, last)
    found = find_removals(runs_dir, wanted)
    if not json:
        _print_removals(found, runs_dir)
    asks = not yes and not json and sys.stdin.isatty() and sys.stderr.isatty()
    free = [removal for removal in found if not removal.in_use]
    agreed = yes or (asks and bool(free) and typer.confirm("Remove them?", err=True))
    gone = _remove(free, wanted) if agreed else []
    if json:
        items = [{**removal.to_json(), "removed": removal in gone} for removal in found]
        print_json({"runs_dir": str(runs_dir), "items": items})
    elif found and not agreed:
        tell("nothing was removed" + ("" if asks else ": add --yes"))


def _print_removals(found: list[Removal], runs_dir: Path) -> None:
    if not found:
        tell(f"nothing to clean in {runs_dir}")
        return
    cells = [
        [
            str(removal.folder),
            "in use: stays" if removal.in_use else removal.why,
            ", ".join(path.name for path in removal.files) or "the empty folder",
            format_size(removal.bytes),
        ]
        for removal in found
    ]
    print_table("", ["run", "why", "files", "size"], cells, text=3)


def _remove(found: list[Removal], wanted: CleaningRequest) -> list[Removal]:
    from labeldep_cli.runs.cleaning import remove

    gone = []
    for removal in found:
        if remove(removal, wanted):
            gone.append(removal)
            tell(f"removed: {removal.folder}: {removal.why}")
        else:
            tell(f"left: {removal.folder} is in use, or has changed meanwhile")
    return gone
