"""Which written labels look like mistakes: those that the image and the other labels speak against.

G and D have not seen the row when they were trained. Then a label's log-odds, given the image and the other labels as
they are written, are

    s = prior * logit(p_G) + critic * (D(y with the label, x) - D(y without it, x)) + offset

and a written label is the more suspicious the further they lie on the other side. The three weights are those under
which s predicts the written labels best (logistic regression: the pseudo-likelihood of the labels). That needs no
truth: where mistakes fall on labels alike, the odds of a mistake rise with those against what is written, whatever the
rate of mistakes is.

N rows, L labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from labeldep_cli.datasets.label_space import UNKNOWN

STEPS = 100
"""Iterations of LBFGS at most; three weights settle in a dozen."""


@dataclass(frozen=True)
class EvidenceWeights:
    """What G's logit and D's evidence count for in a label's log-odds.

    Attributes:
        prior: of G's logit; below 1 where G is too sure of itself.
        critic: of D's evidence; 0 without a critic.
        offset: of every label.
    """

    prior: float
    critic: float
    offset: float

    def log_odds(self, logits: NDArray[np.float32], evidence: NDArray[np.float32] | None) -> NDArray[np.float64]:
        """Each label's log-odds [N, L], given the image and the other labels."""
        own = self.prior * logits.astype(np.float64) + self.offset
        return own if evidence is None else own + self.critic * evidence


def fit_weights(
    logits: NDArray[np.float32], evidence: NDArray[np.float32] | None, labels: NDArray[np.int8], expected: float = 1.0
) -> EvidenceWeights:
    """Find the weights under which the log-odds predict the written labels best.

    Args:
        logits: of G, [N, L].
        evidence: of D, [N, L] (`evidence.critic_evidence`); None without a critic.
        labels: as written, [N, L]; -1 where unknown, which counts nowhere.
        expected: the critic's weight by theory, 1 for a density ratio.

    Returns:
        The weights, held near (1, expected, 0) as if by one label more. A critic that speaks against what it should
        speak for counts for nothing.
    """
    known = labels != UNKNOWN
    given = [logits[known], np.ones(int(known.sum()))]
    start = [1.0, 0.0]
    if evidence is not None:
        given.append(evidence[known])
        start.append(expected)
    fitted = _logistic_regression(np.stack(given, axis=1), labels[known], start)
    if evidence is None:
        return EvidenceWeights(fitted[0], 0.0, fitted[1])
    if fitted[2] < 0:
        return fit_weights(logits, None, labels)
    return EvidenceWeights(fitted[0], fitted[2], fitted[1])


def _logistic_regression(given: NDArray[np.float64], y: NDArray[np.int8], start: list[float]) -> list[float]:
    x, target = torch.from_numpy(given.astype(np.float64)), torch.from_numpy(y.astype(np.float64))
    middle = torch.tensor(start, dtype=torch.float64)
    weights = middle.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weights], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        fit = binary_cross_entropy_with_logits(x @ weights, target, reduction="sum")
        value: Tensor = (fit + (weights - middle).square().sum() / 2) / max(len(y), 1)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return [float(weight) for weight in weights.detach()]


def suspicion(log_odds: NDArray[np.float64], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Log-odds [N, L] that a label is the other way than it is written; -inf where nothing is written.

    Args:
        log_odds: of each label being there, [N, L].
        labels: as written, [N, L]; -1 where unknown.
    """
    against = np.where(labels > 0, -log_odds, log_odds)
    return np.where(labels == UNKNOWN, -np.inf, against)


def most_suspicious(scores: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(row, label) of every score above 0, where the other way is the likelier one; the highest first."""
    rows, columns = np.nonzero(scores > 0)
    order = np.argsort(-scores[rows, columns], kind="stable")
    return [(int(rows[k]), int(columns[k])) for k in order]
