"""`labeldep compare`: differences between runs, with confidence intervals."""

from __future__ import annotations

from collections.abc import Sequence

from labeldep_cli.config import Machine, RunWorkspace
from labeldep_cli.errors import LabeldepError
from labeldep_cli.experiments.comparison import Comparison, differences
from labeldep_cli.experiments.paired import open_paired, predict_paired
from labeldep_cli.progress import Reporter


def compare(
    run_workspace: RunWorkspace, names: Sequence[str], machine: Machine, split: str, seed: int, reporter: Reporter
) -> Comparison:
    """Compare runs with the first one, on the same images, by paired bootstrap.

    Args:
        run_workspace: the folder of the runs, and the data set to score.
        names: names of two runs or more.
        machine: the device and the limits.
        split: name of the split to score.
        seed: seed of the resampling.
        reporter: takes notes.

    Raises:
        LabeldepError: fewer than two runs, or runs whose rows of the split differ.
    """
    if len(names) < 2:
        raise LabeldepError("there is nothing to compare with", "Name two runs or more: labeldep compare RUN RUN")
    runs = open_paired(names, run_workspace, split, reporter)
    return differences(predict_paired(runs, run_workspace, machine, split, reporter), seed)
