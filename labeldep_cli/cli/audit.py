"""`labeldep audit`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags, project_file
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import given, say_next
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table, tell
from labeldep_cli.config import DRAW, AuditConfig, Machine, RunWorkspace, Scope, Source, Workspace
from labeldep_cli.datasets.registry import DATASETS

if TYPE_CHECKING:
    from labeldep_cli.pipelines.audit import Audit

SHOWN = 10
"""Findings on the terminal."""

_DATASET = "Data set for a run to audit: where its own lies now, or any other that has some of its labels."


def audit(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(metavar="DATASET|RUN", help="A data set as for --dataset, or a run: folder, name or stage."),
    ],
    *,
    source: Annotated[Source, Take(without=("dataset",))],
    split: Annotated[
        flags.SplitName | None,
        typer.Option(help="The split of a run to audit: val or test; both if not given.", rich_help_panel=flags.WHAT),
    ] = None,
    moved: Annotated[RunWorkspace, Take("dataset", help={"dataset": _DATASET})],
    config: AuditConfig,
    workspace: Workspace,
    machine: Annotated[Machine, Take(without=("max_memory",))],
    fresh: flags.Fresh = False,
    json: flags.Json = False,
) -> None:
    """Find written labels that image and other labels speak against: likely mistakes, ranked, with a gallery."""
    from labeldep_cli.pipelines.audit import audit_dataset, audit_run
    from labeldep_cli.runs.claims import Job
    from labeldep_cli.runs.names import is_run, known_runs

    of_run = is_run(what, workspace.runs_dir)
    if of_run:
        _refuse(
            ctx,
            ("backbone", *DRAW, "folds", "repeats", "steps", "hidden", "seed", "fresh"),
            f"{what} is a run, trained already",
        )
        run_workspace = replace(
            project_file.scoped(ctx, moved),
            runs_dir=workspace.runs_dir,
            data_dir=workspace.data_dir if _is_moved(ctx, "data_dir") else None,
            features_dir=workspace.features_dir,
        )
        weights = source.weights if _is_moved(ctx, "weights") else None
        found = audit_run(run_workspace, what, machine, split, weights, config, config.out, Terminal())
    else:
        _refuse(ctx, ("split", "dataset"), f"{what} is a data set, which is audited whole")
        if what not in DATASETS and not Path(what).exists():
            tell(f"no run {what!r} in {workspace.runs_dir}: taken for a data set")
        source = replace(source, dataset=what)
        found = audit_dataset(workspace, source, machine, config, Job(config.out, fresh), Terminal())
    _show(found, json)
    name_skipped(found.skipped)
    if of_run:
        say_next(ctx, "report", what, values={"runs_dir": workspace.runs_dir}, json=json)
    else:  # once labels are corrected
        scope = Scope(source.dataset, source.backbone)
        runs = [run for run in known_runs(workspace.runs_dir) if run.within(scope) and not (run.kept or run.nested)]
        is_trained = any(run.stage == "pretrain" for run in runs)
        values = {**given(ctx, source, workspace, machine), "fresh": is_trained}
        say_next(ctx, "pretrain", values=values, json=json)
    raise typer.Exit(ExitCode.of(found.images_read and bool(found.skipped)))


def _is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a flag stands on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _is_moved(ctx: typer.Context, name: str) -> bool:
    """Whether a flag says of a run where something lies now: on the command line, or in the table [audit]."""
    return _is_given(ctx, name) or project_file.of_call(ctx).is_own("audit", name)


def _refuse(ctx: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse flags that would do nothing."""
    for name in names:
        if _is_given(ctx, name):
            raise typer.BadParameter(f"{why}: leave it out", param_hint=f"--{name.replace('_', '-')}")


def _show(found: Audit, json: bool) -> None:
    if json:
        print_json(found.to_json())
        return
    share = 100 * len(found.findings) / found.n_labels
    typer.echo(
        f"{found.of}: {len(found.findings)} of {found.n_labels} written labels ({share:.1f} %) on {found.n_images} "
        "rows are likelier to be the other way"
    )
    header = ["row", "label", "written", "score", "p(label)", "critic"]
    rows = [
        [
            one.path,
            one.label,
            "present" if one.written else "absent",
            f"{one.score:.2f}",
            f"{one.probability:.3f}",
            "-" if one.critic is None else f"{one.critic:+.2f}",
        ]
        for one in found.findings[:SHOWN]
    ]
    if rows:
        print_table("the most suspicious", header, rows, text=3)
    typer.echo("score: log-odds of the other way by image and other labels; critic: what the other labels add to p's.")
    typer.echo(f"all of them: {found.table}; to look at: {found.gallery}")
