"""`labeldep predict`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.show import Terminal, print_json
from labeldep_cli.config import DecisionConfig, Machine, Workspace


def predict(
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMG...", help="Files, folders, globs; - reads paths from stdin.", show_default=False),
    ],
    run: Annotated[
        str | None,
        typer.Option(
            help="A run's folder or name; the newest if not given.",
            autocompletion=complete.run,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    weights: flags.RunWeights = None,
    decision: flags.Decision = DecisionConfig.rule,
    beta: flags.CriticWeight = DecisionConfig.beta,
    threshold: flags.Threshold = DecisionConfig.threshold,
    top_k: flags.TopK = DecisionConfig.top_k,
    non_empty: flags.NonEmpty = DecisionConfig.non_empty,
    runs_dir: flags.RunsDir = Workspace.runs_dir,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    everything: Annotated[
        bool,
        typer.Option("--all", help="With --json, the probabilities of all labels too.", rich_help_panel=flags.OUTPUT),
    ] = False,
    json: flags.Json = False,
) -> None:
    """Label images."""
    from labeldep_cli.datasets.split import Skipped
    from labeldep_cli.errors import LabeldepError
    from labeldep_cli.pipelines.predict import expand
    from labeldep_cli.pipelines.predict import predict as run_pipeline

    asked = DecisionConfig(decision, beta, threshold, top_k, non_empty)
    machine = Machine(device, workers)
    done = skipped = 0
    paths = expand(_words(images))
    for item in run_pipeline(runs_dir, run, machine, asked, str(weights) if weights else None, paths, Terminal()):
        if isinstance(item, Skipped):
            skipped += 1
            if json:
                print_json({"path": item.path, "skipped": item.reason})
            typer.echo(f"skipped: {item.path}: {item.reason}", err=True)
            continue
        done += 1
        if json:
            print_json(item.to_json(everything))
        else:
            found = ", ".join(f"{label} {p:.2f}" for label, p in item.labels)
            typer.echo(f"{item.path}: {found or '(no label)'}")
    if not done:
        raise LabeldepError(
            f"no image could be read, of {skipped} that were named" if skipped else "no images were named",
            "Name image files, folders that hold some, or - to read paths from stdin.",
        )
    raise typer.Exit(3 if skipped else 0)


def _words(images: list[str]) -> Iterator[str]:
    for word in images:
        if word == "-":
            yield from (line.rstrip("\n") for line in sys.stdin if line.strip())
        else:
            yield word
