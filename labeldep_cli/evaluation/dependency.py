"""Measures label dependency: how a model's label sets differ from real ones.

Two kinds of predicted sets are compared with the real ones. *Decided* sets are those that `eval` scores. *Sampled* sets
have each label drawn with its own probability, as in a model of independent labels. N images, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.evaluation.pair_counts import PairCounts, cooccurrence_counts

MIN_COUNT = 5
"""Pairs of labels that occur together in fewer real images are left out of the lift error: their lift is noise."""

LISTED = 500
"""Maximum number of labels whose pairs are listed: the most frequent ones. All labels count in the statistics."""

TESTED = 2000
"""Maximum number of images in the two-sample test: its kernel matrix grows with their square."""

FLIPS = 999
"""Number of random sign flips in the two-sample test."""


@dataclass(frozen=True)
class Pair:
    """Two labels, and how often they occur together.

    Attributes:
        labels: the two names.
        real: number of images with both labels.
        predicted: number of predicted sets with both labels.
        expected: the sum over images of p_i(x) p_j(x): images with both if labels were independent given the image.
        lift, predicted_lift: how many times more often than by chance they occur together; 0 if a label never occurs.
    """

    labels: tuple[str, str]
    real: int
    predicted: int
    expected: float
    lift: float
    predicted_lift: float

    @property
    def excess(self) -> float:
        """Images with both labels beyond those expected of independent labels: real - expected."""
        return self.real - self.expected


@dataclass(frozen=True)
class SetStatistics:
    """How one kind of predicted sets differs from the real ones.

    Attributes:
        lift_error: mean |ln lift - ln real lift| over pairs that occur together in at least MIN_COUNT real images; a
            pair that is never predicted counts as half a prediction. None if no pair is that frequent.
        cardinality: share of images with 0, 1, 2, ... predicted labels.
        cardinality_distance: total variation distance to the real shares, 0..1.
        unseen_pairs: share of predicted pairs that no training image has.
        unseen_sets: share of images whose predicted set no training image has.
        p_value: of the two-sample test whose null hypothesis is that real and predicted sets have the same frequencies
            of single labels and of pairs.
    """

    lift_error: float | None
    cardinality: tuple[float, ...]
    cardinality_distance: float
    unseen_pairs: float
    unseen_sets: float
    p_value: float


@dataclass(frozen=True)
class Dependency:
    """Label dependency of a model's sets.

    Attributes:
        n_images: N.
        cardinality: share of images with 0, 1, 2, ... real labels.
        decided, sampled: the statistics of the two kinds of predicted sets.
        pairs: all pairs of the LISTED most frequent labels, largest |excess| first; their predictions are the decided
            sets.
        labels_left_out: the number of labels whose pairs are not listed.
    """

    n_images: int
    cardinality: tuple[float, ...]
    decided: SetStatistics
    sampled: SetStatistics
    pairs: tuple[Pair, ...]
    labels_left_out: int = 0

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON types; each of `pairs` has its `excess` too."""
        return {
            "n_images": self.n_images,
            "cardinality": list(self.cardinality),
            "decided": asdict(self.decided),
            "sampled": asdict(self.sampled),
            "pairs": [{**asdict(pair), "excess": pair.excess} for pair in self.pairs],
            "labels_left_out": self.labels_left_out,
        }


def measure(
    labels: NDArray[np.int8],
    decided: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    train: NDArray[np.int8],
    names: Sequence[str],
    seed: int,
) -> Dependency:
    """Measure the dependency in real and predicted label sets.

    Args:
        labels: int8 [N, L]; rows with an unknown label (-1) are left out.
        decided: the predicted sets, [N, L].
        probabilities: [N, L].
        train: labels of the training rows, int8 [M, L]; an unknown label counts as absent.
        names: the L label names.
        seed: seed of the sampled sets and of the test.

    Raises:
        ValueError: no row has all its labels known.
    """
    complete = (labels >= 0).all(axis=1)
    if not complete.any():
        raise ValueError("no image has all its labels known")
    real, decided, p = labels[complete] > 0, decided[complete], probabilities[complete]
    rng = np.random.default_rng(seed)
    sampled = rng.random(p.shape) < p
    train_sets = train > 0
    return Dependency(
        n_images=len(real),
        cardinality=_shares(real),
        decided=_statistics(real, decided, train_sets, seed),
        sampled=_statistics(real, sampled, train_sets, seed),
        pairs=_pairs(real, decided, p, names),
        labels_left_out=max(len(names) - LISTED, 0),
    )


def _lift(counts: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    single = np.diag(counts)
    chance = np.outer(single, single) / n
    return np.divide(counts, chance, out=np.zeros_like(counts), where=chance > 0)


def _pairs(
    real: NDArray[np.bool_], decided: NDArray[np.bool_], p: NDArray[np.float64], names: Sequence[str]
) -> tuple[Pair, ...]:
    n, most = len(real), np.sort(np.argsort(-real.sum(axis=0), kind="stable")[:LISTED])
    observed, predicted, expected = (cooccurrence_counts(sets[:, most]) for sets in (real, decided, p))
    lift, predicted_lift = _lift(observed, n), _lift(predicted, n)
    first, second = np.triu_indices(len(most), k=1)
    order = np.argsort(-np.abs(observed[first, second] - expected[first, second]), kind="stable")
    return tuple(
        Pair(
            (names[most[i]], names[most[j]]),
            int(observed[i, j]),
            int(predicted[i, j]),
            float(expected[i, j]),
            float(lift[i, j]),
            float(predicted_lift[i, j]),
        )
        for i, j in zip(first[order], second[order], strict=True)
    )


def _statistics(real: NDArray[np.bool_], sets: NDArray[np.bool_], train: NDArray[np.bool_], seed: int) -> SetStatistics:
    observed, predicted, trained = (PairCounts.of(some) for some in (real, sets, train))
    width = real.shape[1]
    predicted_shares, real_shares = _shares(sets, width), _shares(real, width)
    pairs, unseen = predicted.counts.sum(), predicted.counts[trained.at(predicted) == 0].sum()
    known_sets = {row.tobytes() for row in np.packbits(train, axis=1)}
    new_sets = [row.tobytes() not in known_sets for row in np.packbits(sets, axis=1)]
    return SetStatistics(
        lift_error=_lift_error(
            observed.with_at_least(MIN_COUNT), predicted, real.sum(axis=0), sets.sum(axis=0), len(real)
        ),
        cardinality=_shares(sets),
        cardinality_distance=float(np.abs(np.array(predicted_shares) - np.array(real_shares)).sum() / 2),
        unseen_pairs=float(unseen / pairs) if pairs else 0.0,
        unseen_sets=float(np.mean(new_sets)),
        p_value=two_sample_p(real, sets, seed),
    )


def _lift_error(
    frequent: PairCounts, predicted: PairCounts, real_single: NDArray[np.int64], single: NDArray[np.int64], n: int
) -> float | None:
    """The error over the frequent pairs of n real sets; the labels alone are in [L] real and predicted sets."""
    if not len(frequent.counts):
        return None
    first, second = frequent.first, frequent.second
    # ln lift = ln n_ab + ln n - ln n_a - ln n_b; a count of 0 is replaced by 0.5.
    lifts = np.log(np.maximum(predicted.at(frequent), 0.5)) + np.log(n)
    lifts -= np.log(np.maximum(single[first], 0.5)) + np.log(np.maximum(single[second], 0.5))
    real_lifts = frequent.counts / (real_single[first] * real_single[second] / n)
    return float(np.abs(lifts - np.log(real_lifts)).mean())


def _shares(sets: NDArray[np.bool_], largest: int | None = None) -> tuple[float, ...]:
    """Share of images with 0, 1, 2, ... labels; up to `largest`, or up to the size of the largest set."""
    sizes = sets.sum(axis=1)
    counts = np.bincount(sizes, minlength=0 if largest is None else largest + 1)
    return tuple(float(count) / len(sets) for count in counts)


def two_sample_p(real: NDArray[np.bool_], sets: NDArray[np.bool_], seed: int) -> float:
    """Paired two-sample test on the first and second moments of label sets.

    The statistic is the squared distance between the mean real and the mean predicted set in the space of single labels
    and pairs (maximum mean discrepancy under the kernel (y . y' + 1)^2; flips do not change the terms of an image with
    itself). If both kinds of sets came from one distribution, swapping the two sets of any image would not change the
    distribution of the statistic. A sign flip is such a swap.

    Args:
        real, sets: bool [N, L], of the same images.
        seed: seed of the drawn images and flips.

    Returns:
        The share of flips with at least as large a statistic, including the unflipped sample; 1 / (FLIPS + 1) or more.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(real))[:TESTED])
    y, y_hat = real[rows].astype(np.float64), sets[rows].astype(np.float64)
    kernel = _kernel(y, y) - _kernel(y, y_hat) - _kernel(y_hat, y) + _kernel(y_hat, y_hat)
    signs = np.concatenate([np.ones((1, len(rows))), rng.choice([-1.0, 1.0], size=(FLIPS, len(rows)))])
    statistics = np.einsum("bi,bi->b", signs @ kernel, signs)
    tolerance = 1e-9 * max(float(np.abs(statistics).max()), 1.0)  # equal sums may differ in their last bits
    return float((statistics >= statistics[0] - tolerance).mean())


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((a @ b.T + 1) ** 2)
