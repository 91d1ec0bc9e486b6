"""`labeldep predict`: label images that need not belong to a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from labeldep_cli.compute.devices import pick_device, set_up_device
from labeldep_cli.config import DecisionConfig, Machine, RunWorkspace
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.labelling.labeller import open_labeller
from labeldep_cli.labelling.prediction import Prediction
from labeldep_cli.labelling.stream import labelled
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.find import open_and_announce


def predict(
    run_workspace: RunWorkspace,
    run_name: str | None,
    machine: Machine,
    decision: DecisionConfig,
    weights: str | None,
    images: Iterable[str],
    reporter: Reporter,
) -> Iterator[Prediction | Skipped]:
    """Label images in order. The memory in use does not depend on their number.

    Args:
        run_workspace: the folder of the runs.
        run_name: as `find_run` takes it; None for the newest run.
        machine: the device to compute on.
        decision: which labels make a set.
        weights: a path that replaces the recorded one.
        images: paths. A sequence is cut into full batches. Any other iterable may be slow or endless: a thread reads
            it a little ahead, and what has arrived is labelled without waiting for more. The size of a batch may
            change the last digits of a probability.
        reporter: takes notes.

    Yields:
        For each image its prediction, or why it was skipped.

    Raises:
        LabeldepError: there is no such run, it is a run on ready features, or the weights are not the run's.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    set_up_device(pick_device(machine.device))
    labeller = open_labeller(run, machine, decision, weights, reporter)
    with reporter.bar("labelling", len(images) if isinstance(images, Sequence) else None, "images") as bar:
        for outcome in labelled(labeller, images, machine.n_workers):
            yield outcome
            bar.advance()
