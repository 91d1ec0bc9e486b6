"""The law by which true labels become written ones, fitted to the outputs of cross-fitted networks.

Networks contradict many right labels too, above all those that they cannot see. But as their log-odds t of a label
grow, the share of images on which it is written rises to 1, unless labels are missing: then it stops below. And as t
falls, the share falls to 0, unless labels are written where they should not be. So the law

    P(label k is written | t) = extra_k + (1 - extra_k - missing_k) * sigmoid(slope_k * t + offset_k)

is fitted to the written labels (logistic regression with misclassification; Hausman, Abrevaya and Scott-Morton 1998).
The ends of the curve tell the two rates, its middle the networks' own uncertainty.

N rows, L labels, B bins of t.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labeldep_cli.datasets.label_space import UNKNOWN

QUANTILES = 16
"""Bins of t for the written and for the absent labels of each label."""

STEPS = 60
"""Maximum number of LBFGS iterations of a fit."""

STEEPEST = 10.0
"""Largest log slope. Images that are told apart perfectly, as a few can be, have no best slope."""

HIGHEST = 0.5
"""No rate is higher: beyond it, most of what is written would be wrong."""

NO_RATE = -40.0
"""Log-odds at which a rate is 0, and its gradient too."""

SLOPE_SPREAD, OFFSET_SPREAD = 0.5, 2.0
"""Prior standard deviations of the labels' log slopes and offsets around their mean."""


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

    def of(self, labels: Tensor) -> Law:
        """The law of some labels, int64 [M]; a label may come several times."""
        missing, extra, slope, offset = (part[labels] for part in self[:4])
        return Law(missing, extra, slope, offset, self.parameters)

    def true(self, t: Tensor) -> Tensor:
        """Probability [L, ...] that a label truly holds, at log-odds t [L, ...]."""
        return torch.sigmoid(self.slope[:, None] * t + self.offset[:, None])

    def log_likelihood(self, counts: Counts, t: Tensor) -> Tensor:
        """Of the written labels, a scalar; for `counts` and `t`, see `fit_law`."""
        p = self.written(t)
        return (counts.written * p.log() + (counts.all - counts.written) * (1 - p).log()).sum()

    def written(self, t: Tensor) -> Tensor:
        """Probability [L, ...] that a label is written, at log-odds t [L, ...]."""
        kept = 1 - self.extra - self.missing
        return (self.extra[:, None] + kept[:, None] * self.true(t)).clamp(1e-9, 1 - 1e-9)


def binned(log_odds: NDArray[np.float64], labels: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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


def counts_of(bins: NDArray[np.int64], labels: NDArray[np.int8], weights: NDArray[np.float64], n_bins: int) -> Counts:
    """The counts of the annotated labels, each row weighted."""
    n_labels = labels.shape[1]
    cells = (bins + np.arange(n_labels) * n_bins).ravel()

    def count(mask: NDArray[np.bool_]) -> Tensor:
        found = np.bincount(cells, (weights[:, None] * mask).ravel(), n_labels * n_bins)
        return torch.from_numpy(found.reshape(n_labels, n_bins))

    return Counts(count(labels != UNKNOWN), count(labels > 0))


def fit_law(counts: Counts, t: Tensor, spread: float, unseen: Sequence[float], start: Tensor | None = None) -> Law:
    """Fit the law to counts, by maximum likelihood with priors that hold rare labels near the others.

    Args:
        counts: annotated and written labels, [L, B].
        t: log-odds of the bins, [L, B].
        spread: prior standard deviation of the labels' rates around their mean, in log-odds.
        unseen: missing and wrongly written labels that may have been there without being seen. One each gives the mean
            of a rate after none was seen; draws from an exponential distribution give its spread (a flat prior).
        start: parameters to start from; None for a curve with few mistakes.
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
        own = parameters[:-4].square().sum() / 2
        rates = torch.nn.functional.logsigmoid(parameters[-2:])
        value: Tensor = (own - law.log_likelihood(counts, t) - unseen[0] * rates[0] - unseen[1] * rates[1]) * scale
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return _law(parameters.detach(), spread)


def fit_without_mistakes(counts: Counts, t: Tensor) -> Law:
    """Fit the law with both rates at 0; for the arguments, see `fit_law`."""
    start = torch.zeros(4 * len(t) + 4, dtype=torch.float64)
    start[-2:] = NO_RATE
    return fit_law(counts, t, 0.0, (0.0, 0.0), start)


def _law(parameters: Tensor, spread: float) -> Law:
    """The law of parameters [4 L + 4]: each label's own departures, in standard deviations; then the common means."""
    slope, offset, missing, extra = parameters[:-4].chunk(4)
    common = parameters[-4:]
    return Law(
        HIGHEST * torch.sigmoid(common[2] + spread * missing),
        HIGHEST * torch.sigmoid(common[3] + spread * extra),
        torch.exp((common[0] + SLOPE_SPREAD * slope).clamp(max=STEEPEST)),
        common[1] + OFFSET_SPREAD * offset,
        parameters,
    )
