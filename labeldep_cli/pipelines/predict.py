"""`labeldep predict`: label images that need not belong to a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labeldep_cli.compute.devices import pick_device, set_up_device
from labeldep_cli.config import ACCEPT_ALL, AcceptConfig, DecisionConfig, Machine, RunWorkspace
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.value_ranges import measured, shown, suggested_range
from labeldep_cli.labelling.acceptance import acceptance_of, limited
from labeldep_cli.labelling.copies import Copies
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
    value_range: str | None = None,
    copies: Copies | None = None,
    accept: AcceptConfig = ACCEPT_ALL,
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
        value_range: "LOW,HIGH" for pixels with more than 8 bits, if the run has none.
        copies: writes an annotated copy of each labelled image; None for no copies.
        accept: which sets are accepted; each prediction says whether it is.

    Yields:
        For each image its prediction, or why it was skipped.

    Raises:
        LabeldepError: there is no such run, it is a run on ready features, the weights are not the run's, or val
            does not reach the precision that `accept` asks for.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    set_up_device(pick_device(machine.device))
    acceptance = acceptance_of(accept, decision, run)
    labeller = limited(open_labeller(run, machine, decision, weights, reporter, value_range), acceptance, reporter)
    without_range: list[ImageFile] = []
    with reporter.bar("labelling", len(images) if isinstance(images, Sequence) else None, "images") as bar:
        for outcome in labelled(labeller, images, machine.n_workers, reporter.note):
            if isinstance(outcome, Skipped) and outcome.reason == Reason.NO_VALUE_RANGE.text:
                without_range.append(Path(outcome.path))
            yield copies.write(outcome, labeller.rules) if copies and not isinstance(outcome, Skipped) else outcome
            bar.advance()
    values = measured(without_range, labeller.rules)
    if values is not None:
        reporter.note(
            f"{len(without_range)} images with more than 8 bits were skipped, values {shown(values.low)} to "
            f"{shown(values.high)}: name their range, --value-range {suggested_range(values)}"
        )
