"""`labeldep eval`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import name_of, passed_on, print_next
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line, print_table
from labeldep_cli.config import DecisionConfig, EvalConfig, Machine, ReportConfig, RunWorkspace
from labeldep_cli.errors import LabeldepError

if TYPE_CHECKING:
    from labeldep_cli.experiments.decision_table import DecisionTable
    from labeldep_cli.experiments.scores import Evaluation

_OF_ONE_DECISION = {
    "threshold": "--threshold",
    "top_k": "--top-k",
    "non_empty": "--non-empty",
    "beta": "--beta",
    "per_label": "--per-label",
}
"""Flags that mean nothing for a table of all decisions, by parameter name."""


def evaluate(
    ctx: typer.Context,
    run: flags.Run = None,
    *,
    options: Annotated[ReportConfig, Take("split", help={"split": "Split of the data set to score."})],
    weights: flags.RunWeights = None,
    asked: EvalConfig,
    decision: Annotated[DecisionConfig, Take(without=("rule",))],
    per_label: Annotated[
        bool, typer.Option("--per-label", help="Print the scores of each label too.", rich_help_panel=flags.OUTPUT)
    ] = False,
    run_workspace: RunWorkspace,
    machine: Machine,
    json: flags.Json = False,
) -> None:
    """Score a run on a split of its data set, or of another one."""
    from labeldep_cli.pipelines.evaluate import evaluate_decisions, evaluate_run

    where = scoped(ctx, run_workspace)
    moved = str(weights) if weights else None
    if asked.rule == "all":
        _require_alone(ctx)
        table = evaluate_decisions(where, run, machine, decision.ap, options.split, moved, Terminal())
        evaluation = table.first
        print_json(table.to_json()) if json else _print_decisions(table, options.split)
    else:
        decision = replace(decision, rule=asked.rule)
        evaluation = evaluate_run(where, run, machine, decision, options.split, moved, Terminal())
        print_json(evaluation.to_json()) if json else _print_scores(evaluation, options.split, per_label)
    name_skipped(evaluation.skipped)
    print_next(
        ctx,
        "report",
        run or name_of(Path(evaluation.folder), run_workspace.runs_dir),
        values={**passed_on(ctx, run_workspace, machine), "split": options.split},
        json=json,
    )
    raise typer.Exit(ExitCode.of(evaluation.images_read and bool(evaluation.skipped)))


def _require_alone(ctx: typer.Context) -> None:
    """Refuse flags of one decision beside `--decision all`, and "all" as a default of the project file.

    Raises:
        LabeldepError: names the flag.
    """

    def typed(name: str) -> bool:
        source = ctx.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    if not typed("rule"):
        raise LabeldepError(
            'decision = "all" in the project file is not a decision that other commands can make',
            "Remove it there, and type it where you want the table: labeldep eval --decision all",
        )
    if flags_typed := [flag for name, flag in _OF_ONE_DECISION.items() if typed(name)]:
        raise LabeldepError(
            f"--decision all takes no {', '.join(flags_typed)}",
            "The table has every decision. For one of them, name it: --decision threshold",
        )


def _print_scores(evaluation: Evaluation, split: str, per_label: bool) -> None:
    from labeldep_cli.reports import tables

    record = evaluation.to_json()
    rule = tables.decision(record["decision"])
    print_table(f"{_what(evaluation, split)}; {rule}", tables.SUMMARY, [tables.summary(record)], text=0)
    print_line(f"true labels an image: {record['true_labels_per_image']:.2f}")
    _print_left_out_labels(record["skipped_labels"])
    if rows := tables.seen_rows(record):
        print_table("true set in train", tables.SEEN, rows)
    if evaluation.by_seen is None:
        print_line("seen and unseen label sets: unknown, since the run has no record of the sets it was trained on")
    for line in tables.confidence(record["confidence"]):
        print_line(line)
    print_line(tables.protocol(split, record["provenance"]))
    if per_label:
        print_table("", ["label", "precision", "recall", "f1", "AP", "images"], tables.per_label(record))


def _print_decisions(table: DecisionTable, split: str) -> None:
    from labeldep_cli.reports import decision_table as pages
    from labeldep_cli.reports import tables

    first = table.first
    print_table(f"{_what(first, split)}; all decisions, * the best of a column", pages.COLUMNS, pages.rows(table))
    print_line(
        f"mAP {first.scores.mAP:.2f} under every decision; true labels an image: "
        f"{first.scores.true_labels_per_image:.2f}; us: microseconds an image for the decision alone"
    )
    _print_left_out_labels(first.scores.skipped_labels)
    for why in table.left_out.values():
        print_line(f"left out: {why}")
    if choices := pages.choices(table):
        title = f"what you want, and the decision with the best score on val ({table.n_val} images)"
        print_table(title, ["purpose", "score", "decision", "flags", "val", split], choices, text=4)
    print_line(tables.protocol(split, first.provenance))


def _what(evaluation: Evaluation, split: str) -> str:
    scores = evaluation.scores
    return f"{evaluation.folder} on {evaluation.dataset}, {split}: {scores.n_images} images, {scores.n_labels} labels"


def _print_left_out_labels(n: int) -> None:
    if n:
        print_line(f"labels that never occur in this split, left out of the per-class means: {n}")
