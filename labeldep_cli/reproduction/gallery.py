"""The gallery of `labeldep reproduce`, like the paper's Fig. 2: images that baseline and + WGAN-gp label otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.datasets.split import Split
from labeldep_cli.reports.pictures import Labelled, contact_sheet
from labeldep_cli.reproduction.scored import Scored

SHOWN = 12
FILE = "gallery.png"


@dataclass(frozen=True)
class Gallery:
    """Images that two networks disagree on.

    Attributes:
        models: their titles.
        seed: that both were trained with.
        disagreeing: images of the split whose two sets differ.
        items: those with the most differing labels, in this order; of equal ones the first rows.
    """

    models: tuple[str, str]
    seed: int
    disagreeing: int
    items: tuple[Labelled, ...]
    paths: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What the sheet shows."""
        images = [
            {"path": path, "truth": list(item.truth), **{who: list(labels) for who, labels in item.answers}}
            for path, item in zip(self.paths, self.items, strict=True)
        ]
        return {"file": FILE, "models": list(self.models), "seed": self.seed, "disagreeing": self.disagreeing} | {
            "images": images
        }

    def write(self, out: Path, dataset: str) -> None:
        """Draw the sheet into a folder."""
        baseline, other = self.models
        title = (
            f"{dataset}, test split, seed {self.seed}, p > 0.5: {baseline} and {other}",
            f"label {self.disagreeing} images differently; here are the {len(self.items)} with the most labels that "
            "differ, whoever is right",
        )
        contact_sheet(self.items, title, out / FILE)


def choose(split: Split, baseline: tuple[str, Scored], other: tuple[str, Scored]) -> Gallery:
    """Choose the images on which two networks disagree most, whoever is right.

    Args:
        split: the rows that they were scored on, and perhaps others.
        baseline, other: title and label sets of each.
    """
    (first, mine), (second, theirs) = baseline, other
    differing = (mine.predicted != theirs.predicted).sum(axis=1)  # [N]
    order = [int(k) for k in np.argsort(-differing, kind="stable")[:SHOWN] if differing[k]]
    rows = {path: row for row, path in enumerate(split.paths)}
    items = tuple(
        Labelled(
            split.file(rows[mine.paths[k]]),
            split.space.decode(split.labels[rows[mine.paths[k]]] > 0),
            ((first, split.space.decode(mine.predicted[k])), (second, split.space.decode(theirs.predicted[k]))),
        )
        for k in order
    )
    return Gallery((first, second), mine.seed, int((differing > 0).sum()), items, tuple(mine.paths[k] for k in order))
