"""`labeldep predict`: label images that belong to no data set, many at once or one request after the other."""

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
    """Label images, in the order given; memory does not grow with their number.

    Args:
        run_workspace: where runs lie.
        run_name: as `find_run` takes it; None for the newest run.
        machine: to compute on.
        decision: which labels make a set.
        weights: a path in place of the recorded one.
        images: paths. A sequence is taken in whole batches. Anything else may be slow or endless: it is read a little
            ahead, by a thread, and what has come is labelled without a wait for more. How many images pass the network
            together may then move the last digits of a probability.
        reporter: takes notes.

    Yields:
        A prediction an image, or why it was skipped.

    Raises:
        LabeldepError: no such run, one on ready features, or weights that are not the run's.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    set_up_device(pick_device(machine.device))
    labeller = open_labeller(run, machine, decision, weights, reporter)
    with reporter.bar("labelling", len(images) if isinstance(images, Sequence) else None, "images") as bar:
        for found in labelled(labeller, images, machine.n_workers):
            yield found
            bar.advance()
