"""The rows that every system sees: features and label sets of train, val and test, as labeldep itself draws them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from labeldep_cli.config import Machine, Source, Workspace
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.evaluation.evaluate import collect_features
from labeldep_cli.evaluation.seen import seen_in_train
from labeldep_cli.files import make_folder
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.open import open_project

MACHINE = Machine(device="cpu", workers=0)

PLANTED = "planted-coco"
"""Stands for the drawn data set of `benchmarks/planted`; its evidence is SIMULATED."""

EMBEDDED = "scenes"
"""Has a backbone of its own."""


@dataclass(frozen=True)
class Part:
    """N rows of a split.

    Attributes:
        x: features, float32 [N, F].
        y: label sets, int8 [N, L]; -1 where unknown.
    """

    x: NDArray[np.float32]
    y: NDArray[np.int8]

    def at(self, rows: NDArray[np.int64]) -> Part:
        """Some of the rows."""
        return Part(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Data:
    """A data set.

    Attributes:
        name: of the data set.
        train, val, test: its splits.
    """

    name: str
    train: Part
    val: Part
    test: Part

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Whether the label set of a test row occurs in train, bool [N]."""
        return seen_in_train(self.test.y, self.train.y)


def source_of(
    name: str, backbone: str | None, weights: str, labels: Path, work: Path, seed: int, quick: bool
) -> Source:
    """The source that labeldep's commands would open.

    Args:
        name: as for --dataset, or PLANTED.
        backbone, weights: of images; left out for ready features and for EMBEDDED.
        labels: COCO's label sets, for PLANTED.
        work: gets the drawn file of PLANTED.
        seed: of the draw of PLANTED; another seed is another data set of the same law.
        quick: draw few rows.
    """
    if name == PLANTED:
        from benchmarks.planted.cases import Sizes, draw

        sizes = Sizes(300, 60, 100) if quick else Sizes()
        return Source(str(draw("coco", labels, sizes, seed, work / "drawn").file))
    if name == EMBEDDED or Path(name).suffix.lower() in (".npz", ".h5"):
        return Source(name)
    return replace(Source(name), backbone=backbone, weights=weights)


def folds_of(data: Data, count: int, folder: Path) -> list[Source]:
    """Write folds of train as data sets of ready features: each tests on one fold and trains on the others.

    Val stays val. The test rows are not written, so that a look at a fold is no look at test.

    Args:
        data: a data set.
        count: number of folds.
        folder: gets a file for each.
    """
    make_folder(folder)
    sources = []
    for number, (kept, tested) in enumerate(KFold(count, shuffle=True, random_state=0).split(data.train.x)):
        parts = {"train": data.train.at(kept), "val": data.val, "test": data.train.at(tested)}
        file = folder / f"{data.name}-fold{number}.npz"
        np.savez(
            file,
            X=np.concatenate([part.x for part in parts.values()]),
            Y=np.concatenate([part.y for part in parts.values()]),
            label_names=np.array([f"label {k}" for k in range(data.train.y.shape[1])]),
            split=np.concatenate([np.full(len(part.y), name) for name, part in parts.items()]),
        )
        sources.append(Source(str(file)))
    return sources


def read(source: Source, workspace: Workspace, name: str, reporter: Reporter) -> Data:
    """Read the features and label sets of all splits; features of images are extracted if they are missing."""
    project = open_project(workspace, source, MACHINE, reporter)
    inputs = ensure_inputs_together(project, dict.fromkeys(SPLITS, 1), full=False)
    parts = [
        Part(collect_features(one).cpu().numpy().astype(np.float32), one.labels.numpy().astype(np.int8))
        for one in inputs
    ]
    return Data(name, *parts)
