"""Paired bootstrap: the uncertainty of a difference between two models on the same images.

N images, L labels, B resamples. Images are drawn with replacement. The draws are the same for every model, so the
difficulty of an image, which all models share, cancels out of their difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 1000
LEVEL = 95.0
"""Per cent of the resampled differences that lie within an interval."""

_BLOCK = 50
"""Resamples computed at a time. This bounds the memory to a few arrays [_BLOCK, N] and [_BLOCK, L]."""

METRICS = ("CP", "CR", "CF1", "OP", "OR", "OF1", "exact_match", "labels_per_image")
"""Scores of predicted sets, with the names and rules of `metrics.score`: 0..100, except `labels_per_image`."""


@dataclass(frozen=True)
class Interval:
    """A difference and its percentile interval, in points."""

    difference: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 if the whole interval lies above zero, -1 if below, else 0."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def text(self) -> str:
        """With its ends: "+1.2 [+0.3, +2.0]"."""
        return f"{self.difference:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"

    def to_json(self) -> dict[str, float]:
        """The record in the JSON of `labeldep compare`."""
        return {"difference": self.difference, "low": self.low, "high": self.high}


def weights(n: int, seed: int, resamples: int = RESAMPLES) -> NDArray[np.int32]:
    """How often each image is drawn in each resample, int32 [1 + B, N]; row 0 is the original sample, all ones."""
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return np.concatenate([np.ones((1, n), dtype=np.int32), draws.astype(np.int32)])


def interval(scores: NDArray[np.float64], reference: NDArray[np.float64]) -> Interval:
    """The difference of two scores [1 + B]; entry 0 of each belongs to the original sample."""
    difference = scores - reference
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(difference[1:], [tail, 100 - tail])
    return Interval(float(difference[0]), float(low), float(high))


@dataclass(frozen=True)
class SeededInterval:
    """A difference between two models, each trained once per seed, in points.

    Attributes:
        difference: the mean over seeds.
        low, high: the interval over images and, with two or more seeds, also over seeds.
        images: low and high end of the interval over images alone, from resamples of the mean over seeds.
        by_seed: the difference of each seed.
    """

    difference: float
    low: float
    high: float
    images: tuple[float, float]
    by_seed: tuple[float, ...]

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds (divisor n - 1); None if there is one seed."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    def to_json(self) -> dict[str, Any]:
        """The record in the tables of `labeldep reproduce`."""
        low, high = self.images
        return {
            "difference": self.difference,
            "low": self.low,
            "high": self.high,
            "images_alone": {"low": low, "high": high},
            "spread": self.spread,
            "by_seed": list(self.by_seed),
        }


def seeded_interval(scores: NDArray[np.float64], reference: NDArray[np.float64], seed: int) -> SeededInterval:
    """The difference of two models' scores, averaged over training seeds.

    The variation over images comes from the paired bootstrap of the mean over seeds. The variation over seeds is drawn
    from Student's t with S - 1 degrees of freedom and added to each resample: resampling three seeds would make the
    interval far too narrow. With one seed the variation over seeds is unknown, and the interval is valid for that seed
    alone.

    Args:
        scores, reference: scores [S, 1 + B]; entry 0 of each row belongs to the original sample.
        seed: seed of the draws from Student's t.
    """
    difference = scores - reference
    n_seeds, n = difference.shape
    mean = difference.mean(axis=0)
    over_images = interval(mean, np.zeros(n))
    both = over_images
    if n_seeds > 1:
        error = np.std(difference[:, 0], ddof=1) / np.sqrt(n_seeds)
        shift = error * np.random.default_rng(seed).standard_t(n_seeds - 1, size=n)
        both = interval(np.append(mean[:1], mean[1:] + shift[1:]), np.zeros(n))
    return SeededInterval(
        both.difference, both.low, both.high, (over_images.low, over_images.high), tuple(map(float, difference[:, 0]))
    )


def set_scores(
    predicted: NDArray[np.bool_], labels: NDArray[np.int8], w: NDArray[np.int32]
) -> dict[str, NDArray[np.float64]]:
    """Scores of predicted sets under each weighting of the images.

    Args:
        predicted: [N, L].
        labels: int8 [N, L]; -1 where unknown. Unknown labels are ignored.
        w: weights [W, N].

    Returns:
        Each of METRICS, [W]; a label without a positive in a weighting is left out of the means over labels.
    """
    known = labels >= 0
    marks = [_sparse(one) for one in (predicted & (labels > 0), predicted & known, labels > 0)]
    blocks = [w[start : start + _BLOCK].astype(np.float64) for start in range(0, len(w), _BLOCK)]
    parts = [_pooled_scores(*((one.T @ weight.T).T for one in marks)) for weight in blocks]
    scores = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    n_chosen = scores.pop("chosen")
    rows = _weighted(w, known.any(axis=1))
    scores["exact_match"] = exact_match(predicted, labels, w)
    return scores | {"labels_per_image": _ratio(n_chosen, rows)}


def _weighted(w: NDArray[np.int32], marks: NDArray[np.bool_] | np.bool_) -> NDArray[np.float64]:
    """The number of marked images [N] under each weighting [W, N], [W]; without a copy of all weights."""
    return np.array([weights[marks].sum() for weights in w], dtype=np.float64)


def _pooled_scores(
    correct: NDArray[np.float64], chosen: NDArray[np.float64], present_count: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Precisions, recalls and F1 from the labels' counts Nc, Np and Ng, each [b, L]; and the summed Np; each [b]."""
    precision = np.divide(correct, chosen, out=np.zeros_like(correct), where=chosen > 0)
    recall = np.divide(correct, present_count, out=np.zeros_like(correct), where=present_count > 0)
    occurring = present_count > 0
    count = np.maximum(occurring.sum(axis=1), 1)
    cp, cr = (precision * occurring).sum(axis=1) / count, (recall * occurring).sum(axis=1) / count
    op, or_ = _ratio(correct.sum(axis=1), chosen.sum(axis=1)), _ratio(correct.sum(axis=1), present_count.sum(axis=1))
    shares = {"CP": cp, "CR": cr, "CF1": _harmonic(cp, cr), "OP": op, "OR": or_, "OF1": _harmonic(op, or_)}
    return {name: 100 * share for name, share in shares.items()} | {"chosen": chosen.sum(axis=1)}


def _sparse(marks: NDArray[np.bool_]) -> csr_array:
    """The marks of [N, L], of which few are set: label sets are small."""
    from scipy import sparse

    return sparse.csr_array(marks, dtype=np.float64)


def exact_match(predicted: NDArray[np.bool_], labels: NDArray[np.int8], w: NDArray[np.int32]) -> NDArray[np.float64]:
    """Exact match under each weighting of the images, [W] in 0..100; 0 in a weighting without an image.

    Args:
        predicted: [N, L].
        labels: int8 [N, L]; -1 where unknown. An image without a known label does not count.
        w: weights [W, N].
    """
    known = labels >= 0
    has_known = known.any(axis=1)
    right = has_known & ((predicted == (labels > 0)) | ~known).all(axis=1)
    return 100 * _ratio(_weighted(w, right), _weighted(w, has_known))


def macro_f1(predicted: NDArray[np.bool_], labels: NDArray[np.int8], w: NDArray[np.int32]) -> NDArray[np.float64]:
    """The mean of the labels' own F1, [W] in 0..100; arguments as in `set_scores`."""
    known, present = labels >= 0, labels > 0
    weight = w.astype(np.float64)
    marks = (predicted & present, predicted & known, present)
    correct, chosen, there = ((_sparse(one).T @ weight.T).T for one in marks)  # [W, L]
    f1 = np.divide(2 * correct, chosen + there, out=np.zeros_like(correct), where=there > 0)
    return 100 * _ratio(f1.sum(axis=1), (there > 0).sum(axis=1).astype(np.float64))


def mean_average_precision(
    scores: NDArray[np.float32], labels: NDArray[np.int8], w: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Step mAP, [W] in 0..100, under each weighting of the images.

    Equal scores share one threshold, as in `metrics.average_precision`. A label without a positive in a weighting is
    left out of the mean.

    Args:
        scores: logits [N, L].
        labels: int8 [N, L]; -1 unknown.
        w: weights [W, N].
    """
    rankings = [_ranking(scores[:, label], labels[:, label]) for label in range(labels.shape[1])]
    total, count = np.zeros(len(w)), np.zeros(len(w))
    for start in range(0, len(w), _BLOCK):
        block = slice(start, start + _BLOCK)
        drawn = np.ascontiguousarray(w[block].T)  # [N, b]: the weights of an image are adjacent, for quick look-up
        for ranking in rankings:
            if ranking is not None:
                average, positives = ranking.average_precision(drawn)
                total[block] += average
                count[block] += positives > 0
    return 100 * _ratio(total, count)


@dataclass(frozen=True)
class _Ranking:
    """The images of one label in order of falling score, up to the last positive.

    Only thresholds that add a positive matter. There are T of them; each is the end of a run of equal scores.

    Attributes:
        rows: images, int64 [n].
        starts: where in `rows` the images of each threshold begin, [T].
        positives: the images that have the label, in the same order.
        gains: where in `positives` the images of each threshold begin, [T].
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    positives: NDArray[np.int64]
    gains: NDArray[np.int64]

    def average_precision(self, drawn: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Step average precision and weighted number of positives, [b] each, under weights [N, b]; 0 without one."""
        steps = np.add.reduceat(drawn[self.positives], self.gains, axis=0)  # [T, b]
        true_positives = np.cumsum(steps, axis=0, dtype=np.float64)
        listed = np.cumsum(np.add.reduceat(drawn[self.rows], self.starts, axis=0), axis=0, dtype=np.float64)
        precision = np.divide(true_positives, listed, out=np.zeros_like(true_positives), where=listed > 0)
        return _ratio((steps * precision).sum(axis=0), true_positives[-1]), true_positives[-1]


def _ranking(scores: NDArray[np.float32], labels: NDArray[np.int8]) -> _Ranking | None:
    """Rank the images [N] for which one label is known; None if the label never occurs."""
    known = np.flatnonzero(labels >= 0)
    order = known[np.argsort(-scores[known], kind="stable")]
    ranked, present = scores[order], labels[order] > 0
    if not present.any():
        return None
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # the end of each run of equal scores
    positives = np.cumsum(present)[last]
    ends = last[np.diff(positives, prepend=0) > 0]
    gains = np.append(0, np.cumsum(present)[ends[:-1]])
    return _Ranking(order[: ends[-1] + 1], np.append(0, ends[:-1] + 1), order[present], gains)


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros(len(above)), where=below > 0)


def _harmonic(p: NDArray[np.float64], r: NDArray[np.float64]) -> NDArray[np.float64]:
    return _ratio(2 * p * r, p + r)
