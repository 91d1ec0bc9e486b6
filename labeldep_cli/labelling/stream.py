"""Many images in one go: decoded by workers while the ones before them are labelled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from labeldep_cli.datasets.split import Skipped
from labeldep_cli.features.decode import Item, decode
from labeldep_cli.labelling.labeller import Labeller
from labeldep_cli.labelling.paths import BATCH, as_they_come, full_batches
from labeldep_cli.labelling.prediction import Prediction, label

_FEW = 4
"""Images that are decoded sooner than workers are started."""


def labelled(labeller: Labeller, images: Iterable[str], workers: int) -> Iterator[Prediction | Skipped]:
    """One pass of the decoder over all batches."""
    at_work: deque[list[str]] = deque()  # batches that were asked for and are not labelled yet
    if isinstance(images, Sequence):
        workers = min(workers, -(-len(images) // BATCH)) if len(images) > _FEW else 0
        batches = full_batches(images)
    else:
        batches = as_they_come(images, busy=lambda: any(at_work))

    def items() -> Iterator[list[Item[str]]]:
        for batch in batches:
            at_work.append(batch)
            yield [(path, (0,)) for path in batch]

    on_gpu = labeller.device.type == "cuda"
    for decoded in decode(Path, items(), labeller.side, workers, on_gpu, labeller.run.draft):
        yield from label(labeller, at_work.popleft(), decoded)
