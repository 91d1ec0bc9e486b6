"""How many of the annotated labels are mistakes: a number with its interval, by cross-fitted networks.

The number follows from the law of `noise_law`. The interval begins at 0 where mistakes cannot be told from networks
that see little: if a law without mistakes fits the labels as well, or if the networks are hardly ever sure of a label,
so that the law's upper end is not seen.

N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.evaluation.audit import suspicion
from labeldep_cli.evaluation.noise_law import Counts, Law, binned, counts_of, fit_law, fit_without_mistakes
from labeldep_cli.schemas import Count, Share

DRAWS = 30
"""Bootstrap draws for each of the two forms of the rates."""

SPREADS = (0.05, 1.0)
"""The two forms of the rates: nearly the same for all labels, and each label its own; log-odds around their mean."""

SURE = 0.95
"""Probability from which a network is sure that a label is present."""

SURE_ENOUGH = 0.25
"""Share of the present labels that the networks must be sure of, or the interval begins at 0. Chosen on miml2000 with
all features and with a few noisy ones (docs/audit.md)."""

BINS = (0.0, 1.0, 2.0, 4.0, np.inf)
"""Scores of suspects that a reviewer has decided on: in each bin the share of mistakes is counted."""

ENOUGH_REVIEWS = 10
"""Decisions in a bin from which its share of mistakes is taken from them."""

RANKED = 0.5
"""Mean average precision by the image alone that the labels must have, or the interval begins at 0: with weaker
networks the law has mistaken its own misfit for mistakes (docs/audit.md)."""

GAIN = 3.0
"""Log-likelihood by which a law with mistakes must fit better than one without: the 95 % point of a likelihood ratio
test with two parameters."""


class Reviewed(NamedTuple):
    """A suspect on which a reviewer has decided: its score before, and whether the label was a mistake."""

    score: float
    mistake: bool


@dataclass(frozen=True)
class Estimate:
    """The estimated number of wrong labels among those that are annotated.

    Attributes:
        low, high: ends of the 95 % interval.
        number: the estimate.
        of: number of annotated labels, present and absent.
        missing, extra: estimated number of labels that are missing, and of labels that are written wrongly.
        sure: share of the present labels that the networks are sure of.
        mean_ap: mean held-out average precision of the labels, by the image alone.
        reviewed: number of a reviewer's decisions that were used.
    """

    low: Count
    number: Count
    high: Count
    of: Count
    missing: Count
    extra: Count
    sure: Share
    mean_ap: Share
    reviewed: Count

    @property
    def is_vague(self) -> bool:
        """Whether the networks are too unsure for a number; then only `high` means something."""
        return self.of > 0 and _is_vague(self.sure, self.mean_ap)

    def to_json(self) -> dict[str, Any]:
        """The record in `audit.json`."""
        return dict(vars(self))


def _is_vague(sure: float, mean_ap: float) -> bool:
    return sure < SURE_ENOUGH or mean_ap < RANKED


def estimate_mistakes(
    log_odds: NDArray[np.float64],
    labels: NDArray[np.int8],
    mean_ap: float,
    seed: int,
    reviewed: Sequence[Reviewed] = (),
) -> Estimate:
    """Estimate how many of the annotated labels are mistakes.

    The interval has 95 % of bootstrap draws of the images, half of them with each of the SPREADS.

    Args:
        log_odds: that each label is present, given the image and the other labels, [N, L] (`audit.EvidenceWeights`).
        labels: annotated labels [N, L]; -1 where unknown. Unknown labels are ignored.
        mean_ap: mean held-out average precision of the labels, by the image alone.
        seed: of the bootstrap.
        reviewed: decisions on suspects. In a bin of scores with enough of them, the share of mistakes among the
            suspects is that of the decisions (Beta distribution with Jeffreys' prior), and not the law's.
    """
    if (labels == UNKNOWN).all():
        return Estimate(0, 0, 0, 0, 0, 0, 0.0, mean_ap, 0)
    bins, centers = binned(log_odds, labels)
    t = torch.from_numpy(centers)
    suspects = Suspects.of(log_odds, labels, reviewed)
    rng = np.random.default_rng(seed)
    every = counts_of(bins, labels, np.ones(len(labels)), t.shape[1])
    starts = [fit_law(every, t, spread, (1.0, 1.0)) for spread in SPREADS]
    plain = fit_without_mistakes(every, t)
    is_seen = bool(starts[0].log_likelihood(every, t) - plain.log_likelihood(every, t) > GAIN)
    sure = _sure(starts[0] if is_seen else plain, every, t)
    draws = []
    for spread, start in zip(SPREADS, starts, strict=True):
        for _ in range(DRAWS):
            weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels))).astype(np.float64)
            counts = counts_of(bins, labels, weights, t.shape[1])
            unseen = (float(rng.exponential()), float(rng.exponential()))
            law = fit_law(counts, t, spread, unseen, start.parameters)
            draws.append(np.array(_mistakes(law, counts, t)) + suspects.correction(law, rng))
    totals = np.maximum(np.array(draws), 0)
    low, number, high = np.quantile(totals.sum(axis=1), (0.025, 0.5, 0.975))
    missing, extra = np.median(totals, axis=0)
    return Estimate(
        round(low) if is_seen and not _is_vague(sure, mean_ap) else 0,
        round(number),
        round(high),
        int((labels != UNKNOWN).sum()),
        round(missing),
        round(extra),
        sure,
        mean_ap,
        suspects.n_used,
    )


def mistake_odds(log_odds: NDArray[np.float64], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Log-odds [N, L] that an annotated label is a mistake, by the law with each label's own rates.

    A label that is present by its written share, but rarely written wrongly, is less suspicious than its log-odds say.

    Args:
        log_odds: that each label is present, given the image and the other labels, [N, L].
        labels: annotated labels [N, L]; -1 where unknown, where the result is -inf.
    """
    bins, centers = binned(log_odds, labels)
    t = torch.from_numpy(centers)
    law = fit_law(counts_of(bins, labels, np.ones(len(labels)), t.shape[1]), t, SPREADS[-1], (1.0, 1.0))
    return np.where(labels == UNKNOWN, -np.inf, _odds(law, log_odds, labels > 0))


def _odds(law: Law, log_odds: NDArray[np.float64], written: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log-odds [N, L] that a label is a mistake, if it is written or not."""
    true = law.slope.numpy() * log_odds + law.offset.numpy()  # log-odds
    missing, extra = law.missing.numpy(), law.extra.numpy()
    return np.asarray(np.where(written, np.log(extra / (1 - missing)) - true, np.log(missing / (1 - extra)) + true))


def _mistakes(law: Law, counts: Counts, t: Tensor) -> tuple[float, float]:
    """Expected number of missing and of wrongly written labels."""
    true = law.true(t)
    missing = (counts.all * true).sum(dim=1) @ law.missing
    extra = (counts.all * (1 - true)).sum(dim=1) @ law.extra
    return float(missing), float(extra)


def _sure(law: Law, counts: Counts, t: Tensor) -> float:
    """Share of the present labels that the networks are sure of."""
    present = counts.all * law.true(t)
    return float(present[law.true(t) > SURE].sum() / present.sum().clamp_min(1e-9))


class Suspects(NamedTuple):
    """The suspects in bins of scores with enough decisions; M suspects.

    Attributes:
        labels, log_odds, written: label number, log-odds and state of each suspect, [M].
        bins: the bin of its score, [M].
        mistakes, decisions: in each bin, the number of mistakes among the decisions, and that of the decisions.
    """

    labels: NDArray[np.int64]
    log_odds: NDArray[np.float64]
    written: NDArray[np.bool_]
    bins: NDArray[np.int64]
    mistakes: NDArray[np.int64]
    decisions: NDArray[np.int64]

    @staticmethod
    def of(log_odds: NDArray[np.float64], labels: NDArray[np.int8], reviewed: Sequence[Reviewed]) -> Suspects:
        """The suspects among annotated labels [N, L]."""
        edges = np.array(BINS[1:-1])
        decided = [review for review in reviewed if review.score > 0]
        number = np.searchsorted(edges, np.array([review.score for review in decided]))
        decisions = np.bincount(number, minlength=len(BINS) - 1)
        mistakes = np.bincount(number[np.array([review.mistake for review in decided], bool)], minlength=len(BINS) - 1)
        scores = suspicion(log_odds, labels)
        bins = np.searchsorted(edges, scores)
        rows, columns = np.nonzero((scores > 0) & (decisions >= ENOUGH_REVIEWS)[bins])
        written = labels[rows, columns] > 0
        return Suspects(columns, log_odds[rows, columns], written, bins[rows, columns], mistakes, decisions)

    @property
    def n_used(self) -> int:
        """Number of decisions in bins with enough of them."""
        return int(self.decisions[self.decisions >= ENOUGH_REVIEWS].sum())

    def correction(self, law: Law, rng: np.random.Generator) -> NDArray[np.float64]:
        """Mistakes among the suspects by the decisions, less those by the law: missing and wrongly written, [2]."""
        if not len(self.labels):
            return np.zeros(2)
        share = rng.beta(self.mistakes + 0.5, self.decisions - self.mistakes + 0.5)[self.bins]
        of_labels = law.of(torch.from_numpy(self.labels))
        by_law = 1 / (1 + np.exp(-_odds(of_labels, self.log_odds, self.written)))
        gain = share - by_law
        return np.array([gain[~self.written].sum(), gain[self.written].sum()])
