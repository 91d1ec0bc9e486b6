"""The labels of a data set, in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CheckpointError, DatasetError, nearest

UNKNOWN = -1
"""The value of an unknown label, which is masked in the losses, the critic's input and the metrics."""


@dataclass(frozen=True)
class LabelSpace:
    """L distinct label names. Every label vector has their order, which is stored with all saved results."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for name in self.names:
            if name in seen:
                raise DatasetError(f"the label {name!r} is used twice", "Give each label one column.")
            seen.add(name)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The number of each label."""
        return {name: number for number, name in enumerate(self.names)}

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the names in order."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()

    def multi_hot(self, names: Iterable[str]) -> NDArray[np.int8]:
        """Encode a label set.

        Returns:
            int8 [L], 1 where the label is in `names`, else 0.

        Raises:
            DatasetError: a name is not a label here; the remedy suggests similar ones.
        """
        y = np.zeros(len(self.names), dtype=np.int8)
        for name in names:
            try:
                y[self.names.index(name)] = 1
            except ValueError:
                raise DatasetError(f"there is no label {name!r} here", nearest(name, self.names)) from None
        return y

    def decode(self, mask: NDArray[np.generic]) -> tuple[str, ...]:
        """The label names of a set given as `mask` [L], which is positive for the labels in the set."""
        return tuple(name for name, value in zip(self.names, mask, strict=True) if value > 0)

    def require_same(self, other: LabelSpace, mine: str, theirs: str) -> None:
        """Require that two parts have the same labels in the same order.

        Args:
            other: the label space of the other part.
            mine: the name of this part, for the message ("the checkpoint").
            theirs: the name of the other part ("the data set").

        Raises:
            CheckpointError: the labels differ; the message names both parts and the first difference.
        """
        if self.names == other.names:
            return
        if len(self) != len(other):
            difference = f"{mine} has {len(self)} labels, {theirs} {len(other)}"
        else:
            k = next(i for i, (a, b) in enumerate(zip(self.names, other.names, strict=True)) if a != b)
            difference = f"label {k} is {self.names[k]!r} in {mine} and {other.names[k]!r} in {theirs}"
        raise CheckpointError(
            f"labels differ: {difference}", "Use the data set that the run was trained on, or train a new run (--out)."
        )
