"""`labeldep audit`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags, project_file
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import passed_on, print_next, trained_before
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line, print_note
from labeldep_cli.config import FRAME, READING, AuditConfig, Machine, RunWorkspace, Source, Workspace
from labeldep_cli.datasets.formats import holds_features
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.errors import LabeldepError, nearest
from labeldep_cli.files import counted

if TYPE_CHECKING:
    from labeldep_cli.evaluation.suspects import Card, Suspect
    from labeldep_cli.experiments.audit_record import Contradiction
    from labeldep_cli.pipelines.audit import Audit

SHOWN = 10
"""Number of images, and of contradictions, printed on the terminal."""

SHOWN_SUSPECTS = 3
"""Number of suspects of an image, or of identical images, on a line."""

_DATASET = "Data set for a run to audit: its own at its new place, or another one that has some of its labels."


def audit(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(metavar="DATASET|RUN", help="Data set as for --dataset, or run: folder, name or stage."),
    ],
    *,
    source: Annotated[Source, Take(without=("dataset",))],
    split: Annotated[
        flags.SplitName | None,
        typer.Option(help="Split to audit with a run: val or test; both if not given.", rich_help_panel=flags.WHAT),
    ] = None,
    moved: Annotated[RunWorkspace, Take("dataset", help={"dataset": _DATASET})],
    config: AuditConfig,
    workspace: Workspace,
    machine: Annotated[Machine, Take(without=("max_memory",))],
    fresh: flags.Fresh = False,
    label: Annotated[
        str | None,
        typer.Option(
            help="Show only images with a suspect of this name.", metavar="NAME", rich_help_panel=flags.OUTPUT
        ),
    ] = None,
    json: flags.Json = False,
) -> None:
    """Rank the annotated labels that are likely mistakes, given the image and its other labels; write a gallery."""
    from labeldep_cli.pipelines.audit import audit_dataset, audit_run
    from labeldep_cli.runs.claims import Job
    from labeldep_cli.runs.names import is_run

    of_run = is_run(what, workspace.runs_dir)
    if of_run:
        _refuse(
            ctx,
            ("backbone", *FRAME, *READING, "folds", "repeats", "steps", "hidden", "seed", "fresh"),
            f"{what} is a run, which is trained already",
        )
        run_workspace = replace(
            project_file.scoped(ctx, moved),
            runs_dir=workspace.runs_dir,
            data_dir=workspace.data_dir if _is_moved(ctx, "data_dir") else None,
            features_dir=workspace.features_dir,
        )
        weights = source.weights if _is_moved(ctx, "weights") else None
        result = audit_run(run_workspace, what, machine, split, weights, config, config.out, Terminal())
    else:
        _refuse(ctx, ("split", "dataset"), f"{what} is a data set, and all of its splits are audited")
        if what not in DATASETS and not Path(what).exists():
            print_note(f"there is no run {what!r} in {workspace.runs_dir}: it is read as a data set")
        source = replace(source, dataset=what)
        result = audit_dataset(workspace, source, machine, config, Job(config.out, fresh), Terminal())
    if label is not None and label not in result.record.labels:
        raise LabeldepError(f"{result.of} has no label {label!r}", nearest(label, result.record.labels))
    _show(result, label, json)
    name_skipped(result.skipped)
    if of_run:
        print_next(ctx, "report", what, values={"runs_dir": workspace.runs_dir}, json=json)
    elif not holds_features(what):
        print_next(ctx, "review", what, values={"audit": config.out, **passed_on(ctx, source, workspace)}, json=json)
    else:  # to run once the labels are corrected
        values = {**passed_on(ctx, source, workspace, machine), "fresh": trained_before(source, workspace.runs_dir)}
        print_next(ctx, "pretrain", values=values, json=json)
    raise typer.Exit(ExitCode.of(result.images_read and bool(result.skipped)))


def _is_given(ctx: typer.Context, name: str) -> bool:
    """Whether a flag is on the command line."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _is_moved(ctx: typer.Context, name: str) -> bool:
    """Whether the command line or the table [audit] names a new place for a run's data or weights."""
    return _is_given(ctx, name) or project_file.of_call(ctx).is_own("audit", name)


def _refuse(ctx: typer.Context, names: tuple[str, ...], why: str) -> None:
    """Refuse flags that would have no effect."""
    for name in names:
        if _is_given(ctx, name):
            raise typer.BadParameter(f"{why}: leave it out", param_hint=f"--{name.replace('_', '-')}")


def _show(result: Audit, label: str | None, json: bool) -> None:
    if json:
        print_json(result.to_json())
        return
    _show_estimate(result)
    cards = [card for card in result.cards if label is None or card.concerns(label)]
    mistakes = [card for card in cards if card.kind == "mistake"]
    about = "" if label is None else f" about {label}"
    listed = " (%: how probable the image makes the label):" if mistakes else ""
    print_line(f"{counted(len(mistakes), 'image')} with a suspected mistake{about}{listed}")
    for card in mistakes[:SHOWN]:
        print_line(f"  {card.path}: {_suspects_of(card)}")
    if len(mistakes) > SHOWN:
        print_line(f"  ... and {len(mistakes) - SHOWN:,} more")
    rare = counted(len(cards) - len(mistakes), "image")
    print_line(f"{rare} with a rare combination{about}: the image does not contradict its labels")
    _show_contradictions(result.record.contradictions)
    if result.near_identical.n_leaking:
        n = counted(result.near_identical.n_leaking, "image")
        print_line(f"{n} of train or val with a copy or a near-identical image in a later split: see labeldep data")
    if result.record.n_decided:
        print_line(f"{counted(result.record.n_decided, 'image')} decided already, and left out")
    print_line(f"all of them: {result.table}")
    print_line(f"to look at: {result.gallery}")


def _show_estimate(result: Audit) -> None:
    """The estimated number of mistakes, and among how many labels."""
    estimate = result.record.estimate
    if estimate.is_vague:
        print_line(f"{result.of}: between 0 and {estimate.high:,} mistakes")
        ap = f"mAP {100 * estimate.mean_ap:.1f}"
        print_line(f"more cannot be told: the networks see too little of these labels ({ap})")
    else:
        interval = f"95 % interval: {estimate.low:,} to {estimate.high:,}"
        print_line(f"{result.of}: about {estimate.number:,} mistakes ({interval})")
    print_line(f"checked: {counted(result.n_labels, 'written label')} of {counted(result.n_images, 'row')}")


def _show_contradictions(contradictions: Sequence[Contradiction]) -> None:
    """Identical images with different labels."""
    for contradiction in contradictions[:SHOWN]:
        paths, labels = _first(contradiction.paths), _first(contradiction.labels)
        print_line(f"same image, other labels: {paths}: {labels}")
    if len(contradictions) > SHOWN:
        print_line(f"same image, other labels: {len(contradictions) - SHOWN:,} more groups (--json lists all)")


def _first(words: Sequence[str]) -> str:
    """Some words on one line, and how many there are more."""
    more = len(words) - SHOWN_SUSPECTS
    return ", ".join(words[:SHOWN_SUSPECTS]) + (f", and {more} more" if more > 0 else "")


def _suspects_of(card: Card) -> str:
    """The suspects of an image on one line."""
    return _first([_arrow(suspect) for suspect in card.suspects])


def _arrow(suspect: Suspect) -> str:
    """What to do with a label, and its probability by the image: "cat -> absent (3 %)"."""
    if suspect.kind != "mistake":
        return f"{suspect.label} (rare)"
    return f"{suspect.label} -> {suspect.suggested} ({_percent(suspect.probability)})"


def _percent(share: float) -> str:
    """A probability in whole per cent; none is certain."""
    return "< 1 %" if share < 0.005 else "> 99 %" if share >= 0.995 else f"{100 * share:.0f} %"
