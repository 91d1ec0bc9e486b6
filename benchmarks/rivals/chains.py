"""Rivals of one logistic regression per label: independent (binary relevance), or in chains (Dembczynski et al., 2010).

N rows, F features, L labels, K candidate sets of an image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.rivals.answers import Answer
from benchmarks.rivals.powerset import ITERATIONS, Setting, quiet
from benchmarks.rivals.rows import Part

CHAINS, BEAM = 10, 15

MOST_MODELS = 1200
"""Logistic regressions in all: with more than 120 labels there are fewer than CHAINS chains."""

BLOCK = 100
"""Images that are searched at a time."""


@dataclass(frozen=True)
class Chain:
    """log p(y|x) as a sum over labels of log p(y_l | x, the labels before l).

    Attributes:
        order: the labels, first to last, int64 [L].
        w: weights of the features, and a last row of biases, [F + 1, L].
        v: v[j, l] is the weight of label j for label l; 0 unless j comes before l, [L, L].
    """

    order: NDArray[np.int64]
    w: NDArray[np.float64]
    v: NDArray[np.float64]

    def evidence(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """The logits [N, L] without the labels' part, for features [N, F]."""
        logits: NDArray[np.float64] = x @ self.w[:-1] + self.w[-1]
        return logits

    def log_p(self, evidence: NDArray[np.float64], sets: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Log p of sets [N, K, L] for evidence [N, L]: [N, K]."""
        logits = evidence[:, None] + sets.astype(np.float64) @ self.v
        total: NDArray[np.float64] = _log_sigmoid(np.where(sets, logits, -logits)).sum(axis=2)
        return total

    def search(self, evidence: NDArray[np.float64], beam: int = BEAM) -> NDArray[np.bool_]:
        """Probable sets by beam search, bool [N, K, L], K at most `beam`; all different. Evidence is [N, L]."""
        n, n_labels = evidence.shape
        sets, log_p = np.zeros((n, 1, n_labels), dtype=bool), np.zeros((n, 1))
        for label in self.order:
            logit = evidence[:, label, None] + sets.astype(np.float64) @ self.v[:, label]  # [N, K]
            longer = np.concatenate([log_p + _log_sigmoid(-logit), log_p + _log_sigmoid(logit)], axis=1)
            best = np.argsort(-longer, axis=1, kind="stable")[:, :beam]
            k, line = sets.shape[1], np.arange(n)[:, None]
            sets, log_p = sets[line, best % k], longer[line, best]
            sets[:, :, label] = best >= k
        return sets


def relevance(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """Independent labels: the most probable set is that of p > 0.5."""
    scale = StandardScaler().fit(train.x)
    chain = fit(scale.transform(train.x), train.y, setting["C"], None)
    answers = []
    for x in xs:
        evidence = chain.evidence(scale.transform(x))
        sets = evidence > 0
        answers.append(Answer(sets, np.exp(_log_sigmoid(np.abs(evidence)).sum(axis=1))))
    return answers


def chains(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """Chains in random orders; of all sets that their beams find, the one with the highest mean probability."""
    scale, rng, n_labels = StandardScaler().fit(train.x), np.random.default_rng(seed), train.y.shape[1]
    z = scale.transform(train.x)
    count = int(setting.get("chains", number_of_chains(n_labels)))
    grown = [fit(z, train.y, setting["C"], rng.permutation(n_labels)) for _ in range(count)]
    return [_together(grown, scale.transform(x)) for x in xs]


def number_of_chains(n_labels: int) -> int:
    """How many chains there are."""
    return min(CHAINS, max(MOST_MODELS // n_labels, 1))


def fit(x: NDArray[np.float32], y: NDArray[np.int8], c: float, order: NDArray[np.int64] | None) -> Chain:
    """Fit a chain in an order, or independent labels.

    Args:
        x: standardised features [N, F].
        y: labels [N, L]; rows where a label is unknown are left out for it, and an unknown earlier label is absent.
        c: inverse strength of the L2 penalty.
        order: the labels, first to last; None for independent labels.
    """
    n_labels = y.shape[1]
    w, v = np.zeros((x.shape[1] + 1, n_labels)), np.zeros((n_labels, n_labels))
    nothing = np.empty(0, dtype=np.int64)
    for place, label in enumerate(range(n_labels) if order is None else order):
        before = nothing if order is None else order[:place]
        known = y[:, label] >= 0
        target = y[known, label] > 0
        if target.all() or not target.any():  # no model of a constant
            w[-1, label] = np.log((target.sum() + 0.5) / ((~target).sum() + 0.5))
            continue
        inputs = np.hstack([x[known], y[known][:, before] > 0])
        with quiet():
            model = LogisticRegression(C=c, max_iter=ITERATIONS).fit(inputs, target)
        w[:-1, label], w[-1, label] = model.coef_[0, : x.shape[1]], model.intercept_[0]
        v[before, label] = model.coef_[0, x.shape[1] :]
    return Chain(np.arange(n_labels) if order is None else order, w, v)


def _together(grown: list[Chain], x: NDArray[np.float32]) -> Answer:
    sets, confidence = [], []
    for start in range(0, len(x), BLOCK):
        evidence = [chain.evidence(x[start : start + BLOCK]) for chain in grown]
        found = np.concatenate([chain.search(one) for chain, one in zip(grown, evidence, strict=True)], axis=1)
        p = np.mean([np.exp(chain.log_p(one, found)) for chain, one in zip(grown, evidence, strict=True)], axis=0)
        line, best = np.arange(len(p)), p.argmax(axis=1)
        sets.append(found[line, best])
        confidence.append(p[line, best])
    return Answer(np.concatenate(sets), np.concatenate(confidence))


def _log_sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = -np.logaddexp(0.0, -x)
    return values
