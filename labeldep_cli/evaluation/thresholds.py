"""From probabilities to label sets: the decision rule, and its threshold tuned on validation rows.

Pure numpy. N images, L labels. A label is predicted if its probability is strictly ABOVE the threshold, so that 0.5 is
the same as logit > 0. Comparisons are in float64: a tuned threshold may lie between two adjacent float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DecisionConfig
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.errors import LabeldepError

DEFAULT_THRESHOLD = 0.5
"""The threshold of the paper's own rows in Tables 1 and 2."""


@dataclass(frozen=True)
class DecisionRule:
    """How the probabilities of an image become its label set.

    Attributes:
        rule: "threshold": every label is decided by its own probability.
        threshold: 0..1, one for all labels or one per label; None to use `top_k` alone.
        top_k: at most this many labels per image; exactly this many if `threshold` is None. None for no limit.
        non_empty: an empty set is replaced by the most probable label.
        source: where the threshold comes from: "default", "given", "tuned on val", "tuned per label on val".

    Raises:
        ValueError: neither threshold nor k, a threshold outside 0..1, or k below 1.
    """

    rule: Literal["threshold"] = "threshold"
    threshold: float | tuple[float, ...] | None = DEFAULT_THRESHOLD
    top_k: int | None = None
    non_empty: bool = False
    source: str = "default"

    def __post_init__(self) -> None:
        if self.rule != "threshold":
            raise ValueError(f"decision rule {self.rule!r}: known is 'threshold'")
        if self.threshold is None and self.top_k is None:
            raise ValueError("a decision rule needs a threshold, a k, or both")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"the top {self.top_k} labels: k must be 1 or more")
        if self.threshold is not None:
            values = np.atleast_1d(np.asarray(self.threshold, dtype=np.float64))
            if not ((values >= 0) & (values <= 1)).all():  # in this form NaN is refused too
                raise ValueError(f"threshold {self.threshold}: must be in 0..1")

    def decide(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Decide on the label set of each image.

        Args:
            probabilities: [N, L] in 0..1.

        Returns:
            bool [N, L]: the labels above the threshold. With `top_k`, only the k most probable of these; of equally
            probable labels the first in label order. With `non_empty`, at least the most probable label.

        Raises:
            ValueError: a probability is NaN or outside 0..1, or the number of per-label thresholds is not L.
        """
        _check_probabilities(probabilities)
        chosen = self._above(probabilities)
        if self.top_k is not None:
            chosen &= _most_probable(probabilities, self.top_k)
        if self.non_empty and probabilities.shape[1] > 0:
            empty = np.flatnonzero(~chosen.any(axis=1))
            chosen[empty, probabilities[empty].argmax(axis=1)] = True
        return chosen

    def _above(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """The labels above the threshold, bool [N, L]; all labels if there is no threshold."""
        if self.threshold is None:
            return np.ones(probabilities.shape, dtype=np.bool_)
        # [1] or [L], never 0-d: older numpy would round a 0-d threshold to float32, the type of the probabilities.
        threshold = np.atleast_1d(np.asarray(self.threshold, dtype=np.float64))
        if isinstance(self.threshold, tuple) and len(threshold) != probabilities.shape[1]:
            raise ValueError(f"{len(threshold)} thresholds for {probabilities.shape[1]} labels")
        above: NDArray[np.bool_] = np.greater(probabilities, threshold)
        return above

    def to_json(self) -> dict[str, Any]:
        """The rule as JSON types: rule, threshold (a number, or a list of L numbers) and/or k, non_empty, source."""
        record: dict[str, Any] = {"rule": self.rule}
        if self.threshold is not None:
            record["threshold"] = (
                [float(t) for t in self.threshold] if isinstance(self.threshold, tuple) else float(self.threshold)
            )
        if self.top_k is not None:
            record["k"] = self.top_k
        return {**record, "non_empty": self.non_empty, "source": self.source}

    @classmethod
    def of(cls, config: DecisionConfig, tuned: Mapping[str, Any]) -> DecisionRule:
        """The rule that the user requests.

        Args:
            config: threshold, top k, non-empty.
            tuned: the thresholds in the checkpoint, tuned on val: "tuned" is a number, "tuned-per-label" a list [L].

        Raises:
            LabeldepError: the threshold is neither a number in 0..1 nor "tuned" or "tuned-per-label", or k is below 1.
        """
        threshold, source = cls._threshold(config, tuned)
        if config.top_k is not None and config.top_k < 1:
            raise LabeldepError(f"--top-k {config.top_k}: k must be 1 or more")
        return cls("threshold", threshold, config.top_k, config.non_empty, source)

    @staticmethod
    def _threshold(config: DecisionConfig, tuned: Mapping[str, Any]) -> tuple[float | tuple[float, ...] | None, str]:
        word = config.threshold
        if word is None:
            return (DEFAULT_THRESHOLD if config.top_k is None else None), "default"
        if word == "tuned":
            return float(tuned["tuned"]), "tuned on val"
        if word == "tuned-per-label":
            return tuple(map(float, tuned["tuned-per-label"])), "tuned per label on val"
        try:
            value = float(word)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise LabeldepError(
                f"--threshold {word} is no threshold", "Name a probability between 0 and 1, tuned or tuned-per-label."
            )
        return value, "given"


def tune(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> float:
    """The one threshold for all labels that has the best OF1 on these rows. The rows must be VALIDATION rows.

    The search is exact: every cut between two distinct probabilities is tried. The threshold lies midway between the
    two probabilities, so that it generalizes to other rows. Of cuts with the same OF1 the one nearest to 0.5 is taken.

    Args:
        probabilities: [N, L] in 0..1.
        labels: int8 [N, L]: 1 present, 0 absent, -1 unknown (left out).

    Returns:
        The threshold, 0..1; 0.5 if no label is present, or if no threshold has an OF1 above 0.

    Raises:
        ValueError: a probability is NaN or outside 0..1, or the shapes differ.
    """
    _check_probabilities(probabilities, labels)
    known = labels != UNKNOWN
    return _best_threshold(probabilities[known], labels[known] > 0, DEFAULT_THRESHOLD)


def tune_per_label(
    probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int8], fallback: float = DEFAULT_THRESHOLD
) -> NDArray[np.float64]:
    """For each label the threshold with the label's best F1 on these rows, searched as in `tune`.

    Args:
        probabilities: [N, L] in 0..1, of VALIDATION rows.
        labels: int8 [N, L]: 1 present, 0 absent, -1 unknown (left out).
        fallback: the threshold of a label that occurs in no row: 0.5, or the shared threshold from `tune`.

    Returns:
        float64 [L], 0..1.

    Raises:
        ValueError: a probability is NaN or outside 0..1, or the shapes differ.
    """
    _check_probabilities(probabilities, labels)
    known = labels != UNKNOWN
    return np.array(
        [_best_threshold(probabilities[mask, c], labels[mask, c] > 0, fallback) for c, mask in enumerate(known.T)],
        dtype=np.float64,
    )


def _best_threshold(p: NDArray[np.floating[Any]], y: NDArray[np.bool_], fallback: float) -> float:
    """The threshold with the best F1 of `p > threshold` against `y`.

    Args:
        p: [M], probabilities.
        y: [M], True where the label is present.
        fallback: returned if no threshold has an F1 above 0.
    """
    if not y.any():
        return fallback
    order = np.argsort(-p)
    ranked = p[order].astype(np.float64)
    # A cut predicts the first last + 1 entries: all down to one distinct probability. (No prediction has an F1 of 0.)
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    n_right = np.cumsum(y[order])[last]
    f1 = 2 * n_right / (last + 1 + y.sum())  # quotients of integers: equal F1s are equal floats
    f1[ranked[last] == 0] = 0  # p > t excludes p = 0 for every t
    if f1.max() == 0:
        return fallback
    above = ranked[last]
    below = np.append(ranked, 0.0)[last + 1]
    middle = below + (above - below) / 2
    threshold = np.where(middle < above, middle, below)  # two adjacent floats have no float between them
    best = np.flatnonzero(f1 == f1.max())
    return float(threshold[best[np.abs(threshold[best] - DEFAULT_THRESHOLD).argmin()]])


def _most_probable(probabilities: NDArray[np.floating[Any]], k: int) -> NDArray[np.bool_]:
    """The k most probable labels of each image, bool [N, L]; of equally probable ones the first in label order."""
    n_labels = probabilities.shape[1]
    if k >= n_labels:
        return np.ones(probabilities.shape, dtype=np.bool_)
    last = np.partition(probabilities, n_labels - k, axis=1)[:, n_labels - k, None]  # the k-th largest
    above, equal = probabilities > last, probabilities == last
    room = k - above.sum(axis=1, keepdims=True)
    return np.asarray(above | (equal & (equal.cumsum(axis=1) <= room)))


def _check_probabilities(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int8] | None = None) -> None:
    """Refuse values that are not probabilities (logits, NaN), and labels of another shape."""
    if probabilities.ndim != 2:
        raise ValueError(f"probabilities {probabilities.shape}: must be [N, L]")
    if labels is not None and labels.shape != probabilities.shape:
        raise ValueError(f"probabilities {probabilities.shape} for labels {labels.shape}")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():  # in this form NaN is refused too
        raise ValueError("probabilities must lie in 0..1, without NaN: are these logits?")
