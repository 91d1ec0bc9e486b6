"""`labeldep tune`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_table
from labeldep_cli.config import Machine, Source, TuneConfig, Workspace

if TYPE_CHECKING:
    from labeldep_cli.pipelines.tune import Tuned


def tune(
    *,
    source: Source,
    options: TuneConfig,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print only the trials of each round.", rich_help_panel=flags.HOW)
    ] = False,
    workspace: Workspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Search head, weight decay and critic on val, one setting after the other; test is never looked at."""
    from labeldep_cli.pipelines.tune import plan as make_plan
    from labeldep_cli.pipelines.tune import tune as run

    if plan:
        _show_plan(make_plan(), json)
        return
    tuned = run(workspace, source, machine, options, Terminal(lines=0))
    if tuned is not None and json:
        print_json(tuned.to_json())
    elif tuned is not None:
        _show(tuned)
    if tuned is None or tuned.left_out == "Ctrl-C":
        raise KeyboardInterrupt


def _show_plan(rounds: dict[str, list[str]], json: bool) -> None:
    if json:
        print_json({"rounds": rounds})
        return
    for number, (name, trials) in enumerate(rounds.items(), 1):
        print_line(f"{number}. {name}: {', '.join(trials)}")
    print_line("Each round starts from the best trial so far; the names are those around the defaults.")


def _show(tuned: Tuned) -> None:
    default, best = tuned.trials[0], tuned.best
    rows = []
    for measured in tuned.trials:
        score = measured.score
        rows.append(
            [
                measured.trial.name,
                f"{score.difference:.1f} [{score.low:.1f}, {score.high:.1f}]",
                "" if measured is default else measured.beside(default).text,
                f"{measured.seconds:.0f}",
            ]
        )
    title = f"{tuned.n_val} val rows of {tuned.dataset}, {tuned.score.replace('_', ' ')}; 95 % intervals"
    print_table(title, ["trial", "score", "beside the defaults", "seconds"], rows)
    if tuned.left_out:
        print_line(f"stopped early ({tuned.left_out}); the same command goes on")
    if best is default:
        print_line("No trial is better than the defaults.")
    elif best.beside(default).sign > 0:
        print_line(f"Best: {best.trial.name}. The best of many looks better on val than it is.")
    else:
        print_line(f"Best: {best.trial.name}, but val cannot tell it from the defaults: they are as good a choice.")
    for line in tuned.commands:
        print_line(line)
    print_line(_next(tuned))


def _next(tuned: Tuned) -> str:
    from labeldep_cli.experiments.tuning import flags_of_decision

    return f"labeldep eval {shlex.quote(str(tuned.best.folder))} {flags_of_decision(tuned.best.decision)}"
