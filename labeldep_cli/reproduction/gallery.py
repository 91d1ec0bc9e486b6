"""The gallery of `labeldep reproduce`, like the paper's Fig. 2: images that two networks label differently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.datasets.split import Split
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.reports.pictures import Labelled, contact_sheet
from labeldep_cli.reproduction.scored import Scored

SHOWN = 12
FILE = "gallery.png"


@dataclass(frozen=True)
class Gallery:
    """Images that two networks disagree on.

    Attributes:
        models: titles of the two networks.
        seed: the seed that both were trained with.
        disagreeing: number of images of the split whose two sets differ.
        items: the images with the most differing labels, the most first; among equal ones the first rows.
        paths: their paths, in the same order.
    """

    models: tuple[str, str]
    seed: int
    disagreeing: int
    items: tuple[Labelled, ...]
    paths: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The contents of the sheet as one JSON object."""
        images = [
            {"path": path, "truth": list(item.truth), **{model: list(labels) for model, labels in item.answers}}
            for path, item in zip(self.paths, self.items, strict=True)
        ]
        return {"file": FILE, "models": list(self.models), "seed": self.seed, "disagreeing": self.disagreeing} | {
            "images": images
        }

    def write(self, out: Path, dataset: str, rules: PixelRules) -> None:
        """Draw the sheet into the folder `out`; the rules are those of the data set."""
        baseline, other = self.models
        title = (
            f"{dataset}, test split, seed {self.seed}, p > 0.5: {baseline} and {other}",
            f"label {self.disagreeing} images differently; here are the {len(self.items)} with the most labels that "
            "differ, no matter which is right",
        )
        contact_sheet(self.items, rules, title, out / FILE)


def choose(split: Split, baseline: tuple[str, Scored], other: tuple[str, Scored]) -> Gallery:
    """Choose the images on which two networks disagree most, no matter which is right.

    Args:
        split: contains the rows that they were scored on, and possibly more.
        baseline, other: title and scored label sets of each network.
    """
    (title_a, a), (title_b, b) = baseline, other
    differing = (a.predicted != b.predicted).sum(axis=1)  # [N]
    order = [int(k) for k in np.argsort(-differing, kind="stable")[:SHOWN] if differing[k]]
    rows = {path: row for row, path in enumerate(split.paths)}
    items = tuple(
        Labelled(
            split.file(rows[a.paths[k]]),
            split.space.decode(split.labels[rows[a.paths[k]]] > 0),
            ((title_a, split.space.decode(a.predicted[k])), (title_b, split.space.decode(b.predicted[k]))),
        )
        for k in order
    )
    return Gallery((title_a, title_b), a.seed, int((differing > 0).sum()), items, tuple(a.paths[k] for k in order))
