"""Labels that a data set cannot teach, tune or score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labeldep_cli.datasets.split import Dataset, Split


@dataclass(frozen=True)
class LabelGaps:
    """Labels that a split lacks examples of; a split without rows is not looked at.

    Attributes:
        untrainable: without a present label in train: no network learns them.
        untunable: without a present or without an absent label in val: their thresholds are arbitrary.
        unscored: without a present or without an absent label in test: their scores say nothing.
    """

    untrainable: tuple[str, ...]
    untunable: tuple[str, ...]
    unscored: tuple[str, ...]

    @staticmethod
    def of(dataset: Dataset) -> LabelGaps:
        """The gaps of a data set; unknown labels are neither present nor absent."""
        train, val, test = (dataset.splits[name] for name in ("train", "val", "test"))
        return LabelGaps(_without(train, 1), _without(val, 1, 0), _without(test, 1, 0))

    def to_json(self) -> dict[str, Any]:
        """The record `label_gaps` in the JSON of `labeldep data`."""
        return {name: list(labels) for name, labels in vars(self).items()}


def _without(split: Split, *values: int) -> tuple[str, ...]:
    """The labels that have one of these values in no row of a split."""
    if not len(split):
        return ()
    there = np.all([(split.labels == value).any(axis=0) for value in values], axis=0)
    return split.space.decode(~there)
