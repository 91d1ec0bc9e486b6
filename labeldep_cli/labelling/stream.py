"""Label many images: workers decode the next ones while the previous ones are labelled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from labeldep_cli.datasets.split import Skipped
from labeldep_cli.features.decode import Item
from labeldep_cli.features.reading import read_batches
from labeldep_cli.labelling.labeller import Labeller
from labeldep_cli.labelling.paths import BATCH, as_they_come, full_batches
from labeldep_cli.labelling.prediction import Prediction, label

_FEW = 4
"""Up to this number, images are decoded faster than workers start."""


def labelled(
    labeller: Labeller, images: Iterable[str], workers: int, note: Callable[[str], None]
) -> Iterator[Prediction | Skipped]:
    """Label images in order; for each image its prediction, or why it was skipped.

    Args:
        labeller: the networks and the decision.
        images: paths. A sequence is cut into full batches. Any other iterable may be slow: it is read ahead by a
            thread, and what has arrived is labelled without waiting for more.
        workers: processes that decode; 0 decodes in this one.
        note: takes notes.
    """
    in_work: deque[list[str]] = deque()  # batches that were requested and are not labelled yet
    if isinstance(images, Sequence):
        workers = min(workers, -(-len(images) // BATCH)) if len(images) > _FEW else 0
        batches = full_batches(images)
    else:
        batches = as_they_come(images, busy=lambda: any(in_work))

    def items() -> Iterator[list[Item[str]]]:
        for batch in batches:
            in_work.append(batch)
            yield [(path, (0,)) for path in batch]

    how = (labeller.square, labeller.rules, labeller.jpegs, workers, labeller.device, note)
    for decoded in read_batches(Path, items(), *how, largest=BATCH):
        yield from label(labeller, in_work.popleft(), decoded)
