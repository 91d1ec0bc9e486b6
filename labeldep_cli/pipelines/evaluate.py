"""`labeldep eval`: score a run on a split."""

from __future__ import annotations

from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
from labeldep_cli.evaluation.metrics import ApVariant
from labeldep_cli.experiments.decision_table import DecisionTable, decision_table
from labeldep_cli.experiments.scores import Evaluation, evaluate_with
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.find import open_and_announce


def evaluate_run(
    run_workspace: RunWorkspace,
    run_name: str | None,
    machine: Machine,
    decision: DecisionConfig,
    split: str,
    weights: str | None,
    reporter: Reporter,
) -> Evaluation:
    """Score a run's best checkpoint.

    Args:
        run_workspace: the folder of the runs, and the data set to score.
        run_name: a folder, name, stage or part of a name, as for `find_run`; None for the newest run.
        machine: the device and the limits.
        decision: the rule that chooses label sets.
        split: name of the split to score.
        weights: path of the backbone's weights; None for the recorded one.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: there is no such run; its data set is missing; its weights have changed; or it was trained on
            rows of the split.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    return evaluate_with(run, run_workspace, machine, (decision,), split, weights, reporter)[0]


def evaluate_decisions(
    run_workspace: RunWorkspace,
    run_name: str | None,
    machine: Machine,
    ap: ApVariant,
    split: str,
    weights: str | None,
    reporter: Reporter,
) -> DecisionTable:
    """Score a run's best checkpoint under every decision that it can make; arguments and errors as in `evaluate_run`.

    `ap` is the variant of average precision.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    return decision_table(run, run_workspace, machine, ap, split, weights, reporter)
