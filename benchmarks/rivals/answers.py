"""What a system answers, and its scores: exact match, F1, seen and unseen sets, risk and coverage, calibration.

N images, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.evaluation.bootstrap import set_scores
from labeldep_cli.evaluation.risk import calibration_error, risk_coverage

SURE = 0.95
"""The share of accepted sets that has to be right."""


@dataclass(frozen=True)
class Answer:
    """The label sets of N images.

    Attributes:
        sets: bool [N, L].
        confidence: p(set|x) of each, float64 [N]; None for a system that has none.
    """

    sets: NDArray[np.bool_]
    confidence: NDArray[np.float64] | None = None


def right(sets: NDArray[np.bool_], y: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Whether all known labels of an image are correct, bool [N]; y is int8 [N, L], -1 where unknown."""
    hits: NDArray[np.bool_] = ((sets == (y > 0)) | (y < 0)).all(axis=1)
    return hits


def scores(answer: Answer, y: NDArray[np.int8], seen: NDArray[np.bool_]) -> dict[str, float | None]:
    """Scores of one answer, 0..100 except for `labels_per_image`; None where there is nothing to score.

    Args:
        answer: the sets.
        y: int8 [N, L].
        seen: whether the true set occurs in train, bool [N].
    """
    ones = np.ones((1, len(y)), dtype=np.int32)
    of_sets = {name: float(values[0]) for name, values in set_scores(answer.sets, y, ones).items()}
    correct = right(answer.sets, y)
    found: dict[str, float | None] = {key: of_sets[key] for key in ("exact_match", "OF1", "CF1", "labels_per_image")}
    found["exact_match_seen"] = 100 * float(correct[seen].mean()) if seen.any() else None
    found["exact_match_unseen"] = 100 * float(correct[~seen].mean()) if not seen.all() else None
    if answer.confidence is None:
        return found | dict.fromkeys(OF_CONFIDENCE)
    return found | of_confidence(answer.confidence, correct)


OF_CONFIDENCE = ("AURC", "coverage_at_95", "ECE")


def of_confidence(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> dict[str, float | None]:
    """Scores of the confidence, in per cent. Images of equal confidence are accepted together.

    Args:
        confidence: p that a set is right, [N].
        correct: whether it is, bool [N].

    Returns:
        AURC: the mean over images of the share of wrong sets among those that are at least as confident.
        coverage_at_95: the largest share of images, most confident first, of whose sets 95 % are right.
        ECE: mean distance of confidence and share of right sets, over bins with equally many images.
    """
    curve = risk_coverage(confidence, correct)
    return {
        "AURC": curve.area,
        "coverage_at_95": curve.coverage_at(SURE),
        "ECE": calibration_error(confidence, correct),
    }
