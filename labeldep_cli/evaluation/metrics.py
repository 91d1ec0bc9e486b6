"""Scores of predicted label sets: the paper's C and O precision, recall and F1, and further scores.

Pure numpy on arrays; `score` is the entry point. N images, L labels. Unknown labels (-1) are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.errors import DatasetError

ApVariant = Literal["step", "voc"]

_TURNED = 256
"""Labels whose columns are copied together, so that reading one of them does not read all rows."""


@dataclass(frozen=True)
class LabelScores:
    """Scores of one label over the images where it is known.

    Attributes:
        label: its name.
        precision: 0..100; 0 if the label is never predicted.
        recall: 0..100; None if the label never occurs.
        f1: 0..100; 0 if no prediction of the label is correct, or if it never occurs.
        ap: average precision, 0..100; None if the label never occurs.
        count: number of images that have the label.
    """

    label: str
    precision: float
    recall: float | None
    f1: float
    ap: float | None
    count: int


@dataclass(frozen=True)
class Scores:
    """Scores of the predictions for a split. Field names are the JSON keys. Scores are 0..100, unrounded.

    Attributes:
        n_images: N, the number of rows.
        n_labels: L.
        CP: mean over labels of the label's precision (0 if it is never predicted).
        CR: mean over labels of the label's recall.
        CF1: harmonic mean of CP and CR, as in the paper's tables; not the same as `macro_f1`.
        OP: precision of all decisions pooled over labels.
        OR: recall of all decisions pooled over labels.
        OF1: harmonic mean of OP and OR.
        macro_f1: mean over labels of the label's F1.
        mAP: mean over labels of the label's average precision.
        exact_match: share of the images whose known labels are all predicted correctly.
        labels_per_image: mean number of predicted labels (among the known ones).
        true_labels_per_image: mean number of labels present.
        skipped_labels: labels without a positive in the split; left out of the means CP, CR, macro_f1, mAP.
        per_label: the scores of each label, in label order.
    """

    n_images: int
    n_labels: int
    CP: float
    CR: float
    CF1: float
    OP: float
    OR: float
    OF1: float
    macro_f1: float
    mAP: float
    exact_match: float
    labels_per_image: float
    true_labels_per_image: float
    skipped_labels: int
    per_label: tuple[LabelScores, ...]

    def to_json(self) -> dict[str, Any]:
        """The scores as JSON types, keys in the order of the fields; `per_label` is a list of objects."""
        return {**asdict(self), "per_label": [asdict(scores) for scores in self.per_label]}


def harmonic_mean(p: float, r: float) -> float:
    """F1 of a precision and a recall in the same unit: 2pr / (p + r), and 0 where both are 0."""
    return 2 * p * r / (p + r) if p + r > 0 else 0.0


def average_precision(scores: NDArray[np.floating[Any]], y: NDArray[np.number[Any] | np.bool_]) -> float:
    """Step average precision: the sum over thresholds of precision times the gain in recall at the threshold.

    Equal scores share one threshold, as in scikit-learn, so the order of tied rows does not matter.

    Args:
        scores: [N], higher for more probable; no NaN.
        y: [N], positive where the label is present.

    Returns:
        0..1; NaN if no row is positive.
    """
    precision, gains = _precision_and_gain(scores, y)
    return float((precision * gains).sum() / gains.sum())


def voc_average_precision(scores: NDArray[np.floating[Any]], y: NDArray[np.number[Any] | np.bool_]) -> float:
    """Interpolated average precision over all points, as in PASCAL VOC since 2010.

    The precision at a recall is the best precision at this or any higher recall. Equal scores share one threshold.

    Args:
        scores: [N], higher for more probable; no NaN.
        y: [N], positive where the label is present.

    Returns:
        0..1, never below `average_precision`; NaN if no row is positive.
    """
    precision, gains = _precision_and_gain(scores, y)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((envelope * gains).sum() / gains.sum())


AP_VARIANTS = {"step": average_precision, "voc": voc_average_precision}
"""How the average precision of one label is computed, by the values of `--ap`."""


def score(
    logits: NDArray[np.float32],
    predicted: NDArray[np.bool_],
    labels: NDArray[np.int8],
    names: Sequence[str],
    ap: ApVariant = "step",
) -> Scores:
    """Score predictions, by the protocol of Tables 1 and 2 of the paper.

    Args:
        logits: float32 [N, L]; used only to rank the images of each label for average precision.
        predicted: bool [N, L], the predicted label sets.
        labels: int8 [N, L]: 1 present, 0 absent, -1 unknown.
        names: the L labels in order.
        ap: "step" (the sum over recall steps) or "voc" (interpolated).

    Returns:
        The scores. If no label occurs at all, every mean over labels is 0 and `skipped_labels` is L.

    Raises:
        ValueError: a logit is NaN, the shapes differ, or `ap` is neither "step" nor "voc".
        DatasetError: no row has a known label.
    """
    _check(logits, predicted, labels, names, ap)
    known = labels != UNKNOWN
    rows = known.any(axis=1)  # an image without a known label is neither right nor wrong
    n_rows = int(rows.sum())
    if n_rows == 0:
        raise DatasetError("no image has a known label: there is nothing to score", "Name a split that carries labels.")

    present = labels > 0
    chosen = predicted & known
    n_present = present.sum(axis=0)  # [L], Ng
    n_chosen = chosen.sum(axis=0)  # [L], Np
    n_right = (chosen & present).sum(axis=0)  # [L], Nc
    precision = _percent(n_right, n_chosen)
    recall = _percent(n_right, n_present)
    f1 = _percent(2 * n_right, n_chosen + n_present)
    aps = _average_precisions(logits, present, known, ap)

    occurs = n_present > 0
    cp, cr = _mean(precision[occurs]), _mean(recall[occurs])
    # Pooled over ALL labels: a false positive for a label that never occurs counts too.
    pooled_precision = float(_percent(n_right.sum(), n_chosen.sum()))
    pooled_recall = float(_percent(n_right.sum(), n_present.sum()))
    wrong = (chosen != present).any(axis=1)  # unknown entries are False in both
    return Scores(
        n_images=len(labels),
        n_labels=len(names),
        CP=cp,
        CR=cr,
        CF1=harmonic_mean(cp, cr),
        OP=pooled_precision,
        OR=pooled_recall,
        OF1=harmonic_mean(pooled_precision, pooled_recall),
        macro_f1=_mean(f1[occurs]),
        mAP=_mean(aps[occurs]),
        exact_match=100 * float((~wrong[rows]).sum()) / n_rows,
        labels_per_image=float(n_chosen.sum()) / n_rows,
        true_labels_per_image=float(n_present.sum()) / n_rows,
        skipped_labels=int((~occurs).sum()),
        per_label=tuple(map(_label_scores, names, precision, recall, f1, aps, n_present)),
    )


def _check(
    logits: NDArray[np.float32],
    predicted: NDArray[np.bool_],
    labels: NDArray[np.int8],
    names: Sequence[str],
    ap: str,
) -> None:
    """Refuse arrays whose shapes, types or values do not fit; the error names both sides."""
    if ap not in AP_VARIANTS:
        raise ValueError(f"ap {ap!r}: known are {', '.join(AP_VARIANTS)}")
    if labels.ndim != 2 or labels.shape[1] != len(names):
        raise ValueError(f"labels {labels.shape} for {len(names)} label names")
    if logits.shape != labels.shape or predicted.shape != labels.shape:
        raise ValueError(f"logits {logits.shape} and predicted {predicted.shape} for labels {labels.shape}")
    if predicted.dtype != np.bool_:
        raise ValueError(f"predicted is {predicted.dtype}, not bool: decide on label sets first")
    nan = np.isnan(logits)
    if nan.any():
        row, column = (int(i) for i in np.argwhere(nan)[0])
        raise ValueError(f"{int(nan.sum())} logits are NaN, the first in row {row}, label {names[column]!r}")


def _label_scores(label: str, precision: float, recall: float, f1: float, ap: float, count: int) -> LabelScores:
    """The scores of one label as Python numbers; recall and AP are None if the label never occurs."""
    return LabelScores(
        label=label,
        precision=float(precision),
        recall=float(recall) if count > 0 else None,
        f1=float(f1),
        ap=float(ap) if count > 0 else None,
        count=int(count),
    )


def _precision_and_gain(
    scores: NDArray[np.floating[Any]], y: NDArray[np.number[Any] | np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and new positives at each of the T distinct scores, from the highest down.

    Returns:
        Precision [T] at each threshold (one NaN without a positive row), and the number of positives [T] that the
        threshold adds. It is a count and not a recall, so that a perfect ranking sums to exactly 1.
    """
    positive = np.greater(y, 0)
    if not positive.any():
        return np.full(1, np.nan), np.ones(1)
    order = np.argsort(-scores)
    ranked = scores[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    right = np.cumsum(positive[order])[last_of_tie]
    return right / (last_of_tie + 1.0), np.diff(right, prepend=0).astype(np.float64)


def _average_precisions(
    logits: NDArray[np.float32], present: NDArray[np.bool_], known: NDArray[np.bool_], ap: ApVariant
) -> NDArray[np.float64]:
    """Average precision of each label over its known rows: [L], 0..100, NaN without a positive row."""
    ap_of_label = AP_VARIANTS[ap]
    aps = np.full(logits.shape[1], np.nan)
    # Label by label: sorting the full [N, L] at once is no faster and needs int64 and float64 copies of it.
    for start in range(0, len(aps), _TURNED):
        columns = slice(start, start + _TURNED)
        turned = (np.ascontiguousarray(table[:, columns].T) for table in (logits, present, known))
        for c, (z, y, mask) in enumerate(zip(*turned, strict=True), start=start):
            if y.any():
                aps[c] = 100 * ap_of_label(z[mask], y[mask])
    return aps


def _percent(part: NDArray[np.integer[Any]], total: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """100 * part / total elementwise, and 0 where the total is 0."""
    percent: NDArray[np.float64] = 100.0 * part / np.maximum(total, 1)
    return percent


def _mean(values: NDArray[np.float64]) -> float:
    """The mean as a Python float; 0 for an empty array (no labels), since JSON has no NaN."""
    return float(values.mean()) if values.size else 0.0
