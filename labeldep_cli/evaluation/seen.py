"""Scores split by whether an image's true label set occurs in train: a set that train has is easier to name whole.

N images, M training rows, L labels. Labels are int8: 1 present, 0 absent, -1 unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.evaluation.metrics import ApVariant, Scores, score

_PAIRS = 2**22
"""Pairs of an image and a training row that are compared at a time. This bounds the memory."""


@dataclass(frozen=True)
class BySeen:
    """Scores of the images whose true label set occurs in train, and of the others.

    Attributes:
        seen, unseen: the scores of each part; None if it has no image.
    """

    seen: Scores | None
    unseen: Scores | None

    def to_json(self) -> dict[str, Any]:
        """The keys `seen` and `unseen` of `eval --json`: scores without `per_label`, or None."""
        return {"seen": _overall(self.seen), "unseen": _overall(self.unseen)}


def seen_in_train(labels: NDArray[np.int8], train: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether each image's true label set occurs in train.

    Only the labels that are known for the image are compared. A training row counts if it agrees on all of them, so it
    must know them too. An image without any known label counts as seen.

    Args:
        labels: of the images, [N, L].
        train: of the training rows, [M, L].

    Returns:
        bool [N]; all False if there are no training rows.
    """
    seen = np.zeros(len(labels), np.bool_)
    if len(train) == 0:
        return seen
    complete = (labels != UNKNOWN).all(axis=1)
    sets = {row.tobytes() for row in train[(train != UNKNOWN).all(axis=1)]}
    seen[complete] = [row.tobytes() in sets for row in labels[complete]]
    if not complete.all():
        seen[~complete] = _agrees_with_any(labels[~complete], np.unique(train, axis=0))
    return seen


def _agrees_with_any(labels: NDArray[np.int8], train: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether some training row [M, L] agrees with an image [N, L] on all its known labels, bool [N]."""
    distinct, image_of = np.unique(labels, axis=0, return_inverse=True)
    here, there = (np.hstack([rows == 1, rows == 0]).astype(np.float32) for rows in (distinct, train))
    block = max(_PAIRS // len(train), 1)
    most = [(here[start : start + block] @ there.T).max(axis=1) for start in range(0, len(here), block)]
    agrees: NDArray[np.bool_] = np.concatenate(most) == here.sum(axis=1)  # whole numbers, exact in float32
    return agrees[image_of.reshape(-1)]


def score_by_seen(
    logits: NDArray[np.float32],
    predicted: NDArray[np.bool_],
    labels: NDArray[np.int8],
    names: Sequence[str],
    seen: NDArray[np.bool_],
    ap: ApVariant = "step",
) -> BySeen:
    """Score both parts on their own; an image without any known label is in neither.

    Args:
        logits, predicted, labels, names, ap: as in `metrics.score`.
        seen: bool [N], from `seen_in_train`.
    """
    known = (labels != UNKNOWN).any(axis=1)
    parts = (known & seen, known & ~seen)
    return BySeen(
        *(score(logits[rows], predicted[rows], labels[rows], names, ap) if rows.any() else None for rows in parts)
    )


def _overall(scores: Scores | None) -> dict[str, Any] | None:
    return None if scores is None else {name: v for name, v in asdict(scores).items() if name != "per_label"}
