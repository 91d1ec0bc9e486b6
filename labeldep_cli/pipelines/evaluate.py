"""`labeldep eval`: score a run on a split."""

from __future__ import annotations

from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
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
        run_workspace: where runs lie, and which data set is scored.
        run_name: as `find_run` takes it; None for the newest run.
        machine: to compute on.
        decision: which labels make a predicted set.
        split: of the data set.
        weights: a path in place of the recorded one.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: no such run; its data set is gone or its weights have changed; it was trained on rows
            of the split.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    return evaluate_with(run, run_workspace, machine, (decision,), split, weights, reporter)[0]
