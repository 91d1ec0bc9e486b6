"""Known label laws: p(y), draws from it, and p(y|x) under simulated evidence of known strength.

The evidence of a label is one number, x_l = s_l (2 y_l - 1) + noise with noise ~ N(0, 1), so that
log p(x_l | y_l = 1) - log p(x_l | y_l = 0) = 2 s_l x_l, and p(y|x) is proportional to p(y) exp(sum_l 2 s_l x_l y_l).

N images, L labels, K sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_BLOCK = 512
"""Images per block: limits the memory to a few arrays [_BLOCK, K]."""


@dataclass(frozen=True)
class Answer:
    """The truth about images, given their evidence.

    Attributes:
        best: bool [N, L], the most probable set of each image: argmax over y of p(y|x).
        marginals: float64 [N, L], p(y_l = 1 | x): the output of perfect independent sigmoids that get all of x.
    """

    best: NDArray[np.bool_]
    marginals: NDArray[np.float64]


class Law(Protocol):
    """A known p(y)."""

    def answer(self, ratios: NDArray[np.float64]) -> Answer:
        """The answer, from log likelihood ratios [N, L] of the labels (see `log_ratios`)."""


@dataclass(frozen=True)
class SetLaw:
    """Label sets with their probabilities.

    Attributes:
        sets: int8 [K, L], all different.
        log_p: float64 [K], their log probabilities.
    """

    sets: NDArray[np.int8]
    log_p: NDArray[np.float64]

    def draw(self, n: int, rng: np.random.Generator) -> NDArray[np.int8]:
        """Draw n sets with replacement, int8 [n, L]."""
        p = np.exp(self.log_p)
        return self.sets[rng.choice(len(p), size=n, p=p / p.sum())]

    def marginals(self) -> NDArray[np.float64]:
        """p(y_l = 1), [L]."""
        return np.exp(self.log_p) @ self.sets

    def answer(self, ratios: NDArray[np.float64]) -> Answer:
        """Best set and marginals, over all K sets."""
        best = np.empty(ratios.shape, dtype=np.bool_)
        marginals = np.empty(ratios.shape)
        # In float32 the product of a block and 19,000 COCO sets takes a quarter of a second; logs lie within 1e-5.
        sets, log_p = self.sets.T.astype(np.float32), self.log_p.astype(np.float32)
        for start in range(0, len(ratios), _BLOCK):
            part = slice(start, start + _BLOCK)
            joint = ratios[part].astype(np.float32) @ sets + log_p  # log p(y) + log p(x|y) + constant, [B, K]
            best[part] = self.sets[joint.argmax(axis=1)] > 0
            p = np.exp(joint - joint.max(axis=1, keepdims=True))
            marginals[part] = (p @ sets.T) / p.sum(axis=1, keepdims=True)
        return Answer(best, np.clip(marginals, 0, 1))


@dataclass(frozen=True)
class IndependentLaw:
    """Independent labels.

    Attributes:
        p: p(y_l = 1), [L], within 0..1.
    """

    p: NDArray[np.float64]

    def answer(self, ratios: NDArray[np.float64]) -> Answer:
        """Label by label: the best set is where the marginals are above one half."""
        with np.errstate(divide="ignore"):
            odds = ratios + np.log(self.p) - np.log1p(-self.p)
        marginals = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
        return Answer(odds > 0, marginals)


def counted(labels: NDArray[np.int8]) -> SetLaw:
    """The law of drawing rows of labels [N, L] with replacement: p(y) = count(y) / N."""
    sets, counts = np.unique(labels, axis=0, return_counts=True)
    return SetLaw(sets, np.log(counts / counts.sum()))


def ising(fields: NDArray[np.float64], couplings: NDArray[np.float64]) -> SetLaw:
    """The law p(y) proportional to exp(sum_i h_i y_i + sum_{i<j} J_ij y_i y_j), y in {0, 1}, all 2^L sets enumerated.

    Args:
        fields: h [L].
        couplings: J [L, L]; only what lies above the diagonal counts.
    """
    sets = np.array(list(product((0, 1), repeat=len(fields))), dtype=np.int8)  # [2^L, L]
    pairs = np.einsum("ki,ij,kj->k", sets, np.triu(couplings, 1), sets)
    energy = sets @ fields + pairs
    shifted = energy - energy.max()
    return SetLaw(sets, shifted - np.log(np.exp(shifted).sum()))


def frustrated(n_labels: int, coupling: float, seed: int) -> SetLaw:
    """An Ising model of attractive and repulsive pairs: J_ij = +-coupling or 0, a third each, drawn from a seed.

    Fields -sum_j J_ij / 2 - 1/2 undo the couplings' mean pull: labels are neither always nor never there.
    """
    rng = np.random.default_rng(seed)
    above = np.triu(rng.choice([-coupling, 0.0, coupling], size=(n_labels, n_labels)), 1)
    return ising(-(above + above.T).sum(axis=1) / 2 - 0.5, above)


def shuffled(labels: NDArray[np.int8], rng: np.random.Generator) -> NDArray[np.int8]:
    """Permute each column [N] of labels [N, L] separately: label counts are kept, dependency is removed."""
    return rng.permuted(labels, axis=0)


def strengths(n_labels: int, low: float, high: float, seed: int) -> NDArray[np.float64]:
    """How strong each label's evidence is: s [L], uniform between low and high."""
    return np.random.default_rng(seed).uniform(low, high, n_labels)


def evidence(y: NDArray[np.int8], s: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float32]:
    """Simulated image evidence of sets y [N, L]: x = s (2 y - 1) + N(0, 1), float32 [N, L]."""
    x = s * (2.0 * y - 1.0) + rng.standard_normal(y.shape)
    return x.astype(np.float32)


def log_ratios(x: NDArray[np.float32], s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log p(x_l | y_l = 1) - log p(x_l | y_l = 0) = 2 s_l x_l, [N, L]."""
    return 2.0 * s * x
