"""`labeldep predict`: label images that belong to no data set."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DecisionConfig, Machine
from labeldep_cli.datasets.image_file import IMAGE_SUFFIXES
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.features.decode import Decoded, decode
from labeldep_cli.features.images import Reason
from labeldep_cli.pipelines.labeller import Labeller, open_labeller
from labeldep_cli.pipelines.runs import open_told
from labeldep_cli.progress import Reporter

BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """The label set of one image.

    Attributes:
        path: as the user named it.
        labels: (name, probability 0..1) of each label in the set, most probable first.
        probabilities: of all labels, in label order.
    """

    path: str
    labels: tuple[tuple[str, float], ...]
    probabilities: dict[str, float]

    def to_json(self, everything: bool) -> dict[str, object]:
        """The keys of the contract; `everything` adds the probabilities of all labels."""
        found: dict[str, object] = {
            "path": self.path,
            "labels": [{"label": label, "probability": p} for label, p in self.labels],
        }
        return {**found, "probabilities": self.probabilities} if everything else found


@dataclass(frozen=True)
class _Files:
    """Paths by row, picklable for the workers."""

    paths: Sequence[str]

    def __call__(self, row: int) -> Path:
        return Path(self.paths[row])


def expand(words: Iterable[str]) -> Iterator[str]:
    """Turn what the user names into image paths: files as they are, folders and globs as the images in them, sorted."""
    for word in words:
        path = Path(word)
        if path.is_dir():
            yield from (str(p) for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
        elif not path.exists() and glob.has_magic(word):
            matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207 - the pattern may be absolute
            yield from matches or [word]
        else:
            yield word


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
        images: paths, read ahead in batches.
        reporter: takes notes.

    Yields:
        A prediction an image, or why it was skipped.

    Raises:
        LabeldepError: no such run, one on ready features, or weights that are not the run's.
    """
    run = open_told(run_name, runs_dir, reporter)
    labeller = open_labeller(run, machine, decision, weights, reporter)
    words, ahead = iter(images), BATCH
    while paths := list(islice(words, ahead)):  # few at first, so that paths from a pipe are answered soon
        ahead = min(2 * ahead, 32 * BATCH)
        batches = [[(row, (0,)) for row in range(a, min(a + BATCH, len(paths)))] for a in range(0, len(paths), BATCH)]
        workers = min(machine.n_workers, len(batches)) if len(paths) > 4 else 0
        files = _Files(paths)
        for batch, decoded in zip(
            batches, decode(files, batches, labeller.side, workers, draft=run.draft), strict=True
        ):
            yield from _label(labeller, [paths[row] for row, _ in batch], decoded)


def _label(labeller: Labeller, paths: Sequence[str], decoded: Decoded) -> Iterator[Prediction | Skipped]:
    good = decoded.reasons == 0
    rows = iter(zip(*labeller.label(decoded.images[good][:, 0]), strict=True)) if good.any() else iter(())
    names = labeller.run.space.names
    for path, reason in zip(paths, decoded.reasons.tolist(), strict=True):
        if reason:
            yield Skipped(path, Reason(reason).text)
            continue
        yield prediction_of(path, names, *next(rows))


def prediction_of(path: str, names: Sequence[str], p: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Prediction:
    """An image's probabilities [L] and label set [L], with their names."""
    ranked = sorted(map(int, np.flatnonzero(chosen)), key=lambda k: (-p[k], k))
    return Prediction(
        path,
        tuple((names[k], float(p[k])) for k in ranked),
        {name: float(value) for name, value in zip(names, p, strict=True)},
    )
