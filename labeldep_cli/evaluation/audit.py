"""Find annotated labels that look like mistakes: those that the image and the other labels contradict.

G and D must not have been trained on the scored row. Then the log-odds of a label, given the image and the other
annotated labels, are

    s = prior * logit(p_G) + critic * (D(y with the label, x) - D(y without it, x)) + offset

The more strongly s contradicts the annotated label, the more suspicious that label is. The three weights are those
with which s predicts the annotated labels best (logistic regression: the pseudo-likelihood of the labels). This needs
no ground truth: if mistakes hit all labels equally often, the odds of a mistake rise with the odds against the
annotated label, at any rate of mistakes.

N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from labeldep_cli.datasets.label_space import UNKNOWN

AUDITED = 1000
"""Maximum number of labels that are audited. Others occur too seldom for networks to learn them."""

STEPS = 100
"""Maximum number of LBFGS iterations; three weights converge in about a dozen."""


@dataclass(frozen=True)
class EvidenceWeights:
    """The weights of G's logit and of D's evidence in a label's log-odds.

    Attributes:
        prior: weight of G's logit; below 1 if G is overconfident.
        critic: weight of D's evidence; 0 without a critic.
        offset: added to the log-odds of every label.
    """

    prior: float
    critic: float
    offset: float

    def log_odds(self, logits: NDArray[np.float32], evidence: NDArray[np.float32] | None) -> NDArray[np.float64]:
        """The log-odds [N, L] of each label, given the image and the other labels."""
        from_logits = self.prior * logits.astype(np.float64) + self.offset
        return from_logits if evidence is None else from_logits + self.critic * evidence


def audited_labels(tables: Iterable[NDArray[np.int8]]) -> NDArray[np.int64]:
    """The numbers of the AUDITED most frequent labels of some tables [N, L], ascending, int64 [A]."""
    counts = sum((labels > 0).sum(axis=0) for labels in tables)
    return np.sort(np.argsort(-np.asarray(counts), kind="stable")[:AUDITED])


def fit_weights(
    logits: NDArray[np.float32], evidence: NDArray[np.float32] | None, labels: NDArray[np.int8], expected: float = 1.0
) -> EvidenceWeights:
    """Find the weights with which the log-odds predict the annotated labels best.

    Args:
        logits: of G, [N, L].
        evidence: of D, [N, L] (`evidence.critic_evidence`); None without a critic.
        labels: annotated labels [N, L]; -1 where unknown. Unknown labels are ignored.
        expected: the critic's weight according to theory, 1 for a density ratio.

    Returns:
        The weights, regularized towards (1, expected, 0) about as strongly as one more label would. A critic whose
        fitted weight is negative gets the weight 0.
    """
    known = labels != UNKNOWN
    regressors = [logits[known], np.ones(int(known.sum()))]
    prior_mean = [1.0, 0.0]
    if evidence is not None:
        regressors.append(evidence[known])
        prior_mean.append(expected)
    fitted = _logistic_regression(np.stack(regressors, axis=1), labels[known], prior_mean)
    if evidence is None:
        return EvidenceWeights(fitted[0], 0.0, fitted[1])
    if fitted[2] < 0:
        return fit_weights(logits, None, labels)
    return EvidenceWeights(fitted[0], fitted[2], fitted[1])


def _logistic_regression(regressors: NDArray[np.float64], y: NDArray[np.int8], prior_mean: list[float]) -> list[float]:
    """Weights [K] of the regressors [M, K] for y [M], with a Gaussian prior of variance 1 around `prior_mean`."""
    x, target = torch.from_numpy(regressors.astype(np.float64)), torch.from_numpy(y.astype(np.float64))
    center = torch.tensor(prior_mean, dtype=torch.float64)
    weights = center.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = binary_cross_entropy_with_logits(x @ weights, target, reduction="sum")
        value: Tensor = (fit + (weights - center).square().sum() / 2) / max(len(y), 1)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return [float(weight) for weight in weights.detach()]


def suspicion(log_odds: NDArray[np.float64], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Log-odds [N, L] that an annotated label is wrong; -inf where the label is unknown.

    Args:
        log_odds: that the label is present, [N, L].
        labels: annotated labels [N, L]; -1 where unknown.
    """
    against = np.where(labels > 0, -log_odds, log_odds)
    return np.where(labels == UNKNOWN, -np.inf, against)


def most_suspicious(scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(row, label) of every score above 0, where a mistake is likelier than not; highest score first."""
    rows, columns = np.nonzero(scores > 0)
    order = np.argsort(-scores[rows, columns], kind="stable")
    return [(int(rows[k]), int(columns[k])) for k in order]
