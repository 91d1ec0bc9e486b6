"""Many images in one go: decoded by workers while the ones before them are labelled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labeldep_cli.config import DecisionConfig, Machine
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.devices import pick_device, settle_on
from labeldep_cli.features.decode import Item, decode
from labeldep_cli.pipelines.labeller import Labeller, open_labeller
from labeldep_cli.pipelines.predict.paths import BATCH, as_they_come, whole_batches
from labeldep_cli.pipelines.predict.prediction import Prediction, label
from labeldep_cli.pipelines.runs import open_told
from labeldep_cli.progress import Reporter

_FEW = 4
"""Images that are decoded sooner than workers are started."""


def predict(
    runs_dir: Path,
    run_name: str | None,
    machine: Machine,
    decision: DecisionConfig,
    weights: str | None,
    images: Iterable[str],
    reporter: Reporter,
) -> Iterator[Prediction | Skipped]:
    """Label images, in the order given; memory does not grow with their number.

    Args:
        runs_dir: where runs lie.
        run_name: a folder or a name; None for the newest run.
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
    run = open_told(run_name, runs_dir, reporter)
    settle_on(pick_device(machine.device))
    labeller = open_labeller(run, machine, decision, weights, reporter)
    with reporter.bar("labelling", len(images) if isinstance(images, Sequence) else None, "images") as bar:
        for found in _labelled(labeller, images, machine.n_workers):
            yield found
            bar.advance()


def _labelled(labeller: Labeller, images: Iterable[str], workers: int) -> Iterator[Prediction | Skipped]:
    """One pass of the decoder over all batches."""
    at_work: deque[list[str]] = deque()  # batches that were asked for and are not labelled yet
    if isinstance(images, Sequence):
        workers = min(workers, -(-len(images) // BATCH)) if len(images) > _FEW else 0
        batches = whole_batches(images)
    else:
        batches = as_they_come(images, busy=lambda: any(at_work))

    def items() -> Iterator[list[Item[str]]]:
        for batch in batches:
            at_work.append(batch)
            yield [(path, (0,)) for path in batch]

    on_gpu = labeller.device.type == "cuda"
    for decoded in decode(Path, items(), labeller.side, workers, on_gpu, labeller.run.draft):
        yield from label(labeller, at_work.popleft(), decoded)
