"""How many of the annotated labels are mistakes: a number with its interval, by cross-fitted networks.

How often the networks contradict a label does not tell: they err too, above all on labels that they cannot see. But as
their log-odds t of a label grow, the share of images on which it is written rises to 1, unless labels are missing: then
it stops below. And as t falls, the share falls to 0, unless labels are written where they should not be. So the law

    P(label k is written | t) = extra_k + (1 - extra_k - missing_k) * sigmoid(slope_k * t + offset_k)

is fitted to the written labels (logistic regression with misclassification, Hausman et al. 1998). The two rates are
told by the ends of the curve, the networks' own uncertainty by its middle. Where the networks are hardly ever sure, the
ends are not seen, and the interval becomes wide.

N rows, L labels, B bins of t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.datasets.label_space import UNKNOWN

DRAWS = 40
"""Bootstrap draws for each of the two forms of the rates."""

QUANTILES = 16
"""Bins of t for the written and for the absent labels of each label."""

STEPS = 60
"""Maximum number of LBFGS iterations of a fit."""

SPREADS = (0.05, 1.0)
"""The two forms of the rates: nearly the same for all labels, and each label its own; log-odds around their mean."""

HIGHEST = 0.5
"""No rate is higher: beyond it, most of what is written would be wrong."""

SLOPE_SPREAD, OFFSET_SPREAD = 0.5, 2.0
"""Prior standard deviations of the labels' log slopes and offsets around their mean."""


@dataclass(frozen=True)
class Estimate:
    """The estimated number of wrong labels among those that are annotated.

    Attributes:
        low, high: ends of the 95 % interval.
        number: the estimate.
        of: number of annotated labels, present and absent.
        missing, extra: the estimated number of labels that are missing, and of labels that are written wrongly.
        reviewed: number of suspects on which a reviewer's decision was used.
    """

    low: int
    number: int
    high: int
    of: int
    missing: int
    extra: int
    reviewed: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record in `audit.json`."""
        return dict(vars(self))

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Estimate:
        """Rebuild an estimate from its record."""
        return Estimate(**record)


class Counts(NamedTuple):
    """Annotated labels by label and bin of t: how many there are, and on how many the label is written; each [L, B]."""

    all: Tensor
    written: Tensor


class Law(NamedTuple):
    """A fitted law.

    Attributes:
        missing, extra: rates of missing and of wrongly written labels, [L].
        slope, offset: of the true labels' log-odds, [L].
        parameters: all parameters as fitted, [4 L + 4]: where a similar fit may start.
    """

    missing: Tensor
    extra: Tensor
    slope: Tensor
    offset: Tensor
    parameters: Tensor

    def true(self, t: Tensor) -> Tensor:
        """Probability [L, ...] that a label truly holds, at log-odds t [L, ...]."""
        return torch.sigmoid(self.slope[:, None] * t + self.offset[:, None])

    def written(self, t: Tensor) -> Tensor:
        """Probability [L, ...] that a label is written, at log-odds t [L, ...]."""
        kept = 1 - self.extra - self.missing
        return (self.extra[:, None] + kept[:, None] * self.true(t)).clamp(1e-9, 1 - 1e-9)


def estimate_mistakes(log_odds: NDArray[np.float64], labels: NDArray[np.int8], seed: int) -> Estimate:
    """Estimate how many of the annotated labels are mistakes.

    Args:
        log_odds: that each label is present, given the image and the other labels, [N, L] (`audit.EvidenceWeights`).
        labels: annotated labels [N, L]; -1 where unknown. Unknown labels are ignored.
        seed: of the bootstrap.
    """
    bins, centers = _binned(log_odds, labels)
    t = torch.from_numpy(centers)
    rng = np.random.default_rng(seed)
    draws = []
    for spread in SPREADS:
        start = fit_law(_counts(bins, labels, np.ones(len(labels)), t.shape[1]), t, spread, (1.0, 1.0))
        for _ in range(DRAWS):
            weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels))).astype(np.float64)
            counts = _counts(bins, labels, weights, t.shape[1])
            unseen = (float(rng.exponential()), float(rng.exponential()))
            draws.append(_mistakes(fit_law(counts, t, spread, unseen, start.parameters), counts, t))
    totals = np.array(draws)
    low, number, high = np.quantile(totals.sum(axis=1), (0.025, 0.5, 0.975))
    missing, extra = np.median(totals, axis=0)
    known = int((labels != UNKNOWN).sum())
    return Estimate(round(low), round(number), round(high), known, round(missing), round(extra))


def _mistakes(law: Law, counts: Counts, t: Tensor) -> tuple[float, float]:
    """Expected number of missing and of wrongly written labels."""
    true = law.true(t)
    missing = (counts.all * true).sum(dim=1) @ law.missing
    extra = (counts.all * (1 - true)).sum(dim=1) @ law.extra
    return float(missing), float(extra)


def _binned(
    log_odds: NDArray[np.float64], labels: NDArray[np.int8]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The bin of t of every annotated label [N, L], and the bins' mean t [L, B].

    The bins of a label are quantiles of t where it is written and where it is absent, so that the few images of a rare
    label are spread over half of them.
    """
    n_labels = labels.shape[1]
    bins = np.zeros(labels.shape, dtype=np.int64)
    centers = np.zeros((n_labels, 2 * QUANTILES - 1))
    inner = np.linspace(0, 1, QUANTILES + 1)[1:-1]
    for k in range(n_labels):
        t, y = log_odds[:, k], labels[:, k]
        parts = [np.quantile(t[y == value], inner) for value in (0, 1) if (y == value).any()]
        edges = np.unique(np.concatenate([*parts, []]))
        bins[:, k] = np.searchsorted(edges, t)
        known = y != UNKNOWN
        number = np.bincount(bins[known, k], minlength=centers.shape[1])
        centers[k] = np.bincount(bins[known, k], t[known], centers.shape[1]) / np.maximum(number, 1)
    return bins, centers


def _counts(
    bins: NDArray[np.int64], labels: NDArray[np.int8], weights: NDArray[np.float64], n_bins: int
) -> Counts:
    """The counts of the annotated labels, each row weighted."""
    n_labels = labels.shape[1]
    cells = (bins + np.arange(n_labels) * n_bins).ravel()

    def count(mask: NDArray[np.bool_]) -> Tensor:
        found = np.bincount(cells, (weights[:, None] * mask).ravel(), n_labels * n_bins)
        return torch.from_numpy(found.reshape(n_labels, n_bins))

    return Counts(count(labels != UNKNOWN), count(labels > 0))


def fit_law(
    counts: Counts, t: Tensor, spread: float, unseen: Sequence[float], start: Tensor | None = None
) -> Law:
    """Fit the law to counts, by maximum likelihood with priors that hold rare labels near the others.

    Args:
        counts: annotated and written labels, [L, B].
        t: log-odds of the bins, [L, B].
        spread: prior standard deviation of the labels' rates around their mean, in log-odds.
        unseen: missing and wrongly written labels that may have been there without being seen. One each gives the mean
            of a rate after none was seen; draws from an exponential distribution give its spread (a flat prior).
        start: parameters to start from; None for a curve without mistakes.
    """
    n_labels = len(t)
    parameters = torch.zeros(4 * n_labels + 4, dtype=torch.float64) if start is None else start.clone()
    if start is None:
        parameters[-2:] = -4.0
    parameters.requires_grad_(True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=STEPS, line_search_fn="strong_wolfe")
    scale = 100 / max(float(counts.all.sum()), 1.0)

    def loss() -> Tensor:
        optimizer.zero_grad()
        law = _law(parameters, spread)
        p = law.written(t)
        fit = (counts.written * p.log() + (counts.all - counts.written) * (1 - p).log()).sum()
        own = parameters[:-4].square().sum() / 2
        rates = torch.nn.functional.logsigmoid(parameters[-2:])
        value: Tensor = (own - fit - unseen[0] * rates[0] - unseen[1] * rates[1]) * scale
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return _law(parameters.detach(), spread)


def _law(parameters: Tensor, spread: float) -> Law:
    """The law of parameters [4 L + 4]: each label's own departures, in standard deviations; then the common means."""
    slope, offset, missing, extra = parameters[:-4].chunk(4)
    common = parameters[-4:]
    return Law(
        HIGHEST * torch.sigmoid(common[2] + spread * missing),
        HIGHEST * torch.sigmoid(common[3] + spread * extra),
        torch.exp(common[0] + SLOPE_SPREAD * slope),
        common[1] + OFFSET_SPREAD * offset,
        parameters,
    )
