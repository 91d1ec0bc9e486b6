"""Probabilistic classifier chains: each label is decided with the labels before it as inputs.

B images, F feature width, L labels, K sets per image.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from labeldep_cli.models.heads.base import Head, log_odds

BEAM_WIDTH = 15
"""Label sets that the search keeps after each label."""

LABEL_SCALE = 10.0
"""The value of a present label as an input. Weights of labels must reach about 3, and those of features much less: with
the value 1 they would need ten times as many updates."""


class ChainHead(Head):
    """Features [B, F] -> a distribution over all label sets: p(y|x) is a product of p(y_l | x, labels before l).

    Probabilistic classifier chains: Dembczyński, Cheng and Hüllermeier, "Bayes Optimal Multilabel Classification via
    Probabilistic Classifier Chains", ICML 2010; beam search: Kumar, Vembu, Menon and Elkan, "Beam search algorithms for
    multilabel learning", Machine Learning 2013. The order of the labels is fixed before training, from frequent to
    rare. The logit of a label is u_l(x) + v_l y, where y has the labels before it. Training reads the true ones
    (teacher forcing).

    An unknown label has no loss. As an input of the labels after it, it counts as absent.

    The logits of `forward` are those of the marginals p(y_l = 1 | x): the probability of the label given the labels
    before it, as a mean over the 15 sets of the beam, weighted by their p(y|x). If the beam holds all sets this is
    exact. So a label that is in no set of the beam still has a finite logit. No gradient flows through the search.
    """

    own_loss: ClassVar[str | None] = "chain"
    joint: ClassVar[bool] = True

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        self.trunk = nn.Sequential(nn.Linear(feature_dim, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.by_label = nn.Linear(hidden or feature_dim, n_labels)
        self.on_labels = nn.Parameter(torch.zeros(n_labels, n_labels))  # row l: the weights v_l of the other labels
        self.order: Tensor
        self.register_buffer("order", torch.arange(n_labels))

    def fit_to_labels(self, labels: Tensor) -> None:
        """Order labels by frequency; labels with equal counts keep their order."""
        self.order.copy_((labels > 0).sum(dim=0).argsort(descending=True, stable=True))

    @torch.no_grad()
    def start_from_shares(self, labels: Tensor) -> None:
        """The biases become the log odds of the labels, with half a row added to each side."""
        self.by_label.bias.copy_(log_odds(labels))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L] of the marginals; no gradient flows."""
        with torch.no_grad():
            u, v = self._in_order(features)
            sets, log_p = _beam(u, v, BEAM_WIDTH)  # [B, K, L], [B, K]
            given = u[:, None] + sets @ v.T  # [B, K, L], the logit of each label given the labels before it
            weight = log_p.log_softmax(dim=1)[:, :, None]
            logits = (weight + logsigmoid(given)).logsumexp(dim=1) - (weight + logsigmoid(-given)).logsumexp(dim=1)
            return self._in_label_order(logits)

    def set_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """Minus the log probability of the known labels, in nats: summed over labels, averaged over images."""
        present = y.clamp(min=0)
        logits = self.by_label(self.trunk(features)) + present @ self._weights().T
        each = binary_cross_entropy_with_logits(logits, present, reduction="none")
        return (each * (y >= 0)).sum(dim=1).mean()

    def posterior(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The most probable sets of a beam search, bool [B, K, L] with log probabilities [B, K]; K is at most 2^L."""
        sets, log_p = _beam(*self._in_order(features), max(count, BEAM_WIDTH))
        return self._in_label_order(sets[:, :count]).bool(), log_p[:, :count]

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Sets drawn label by label, in the order of the chain; each label takes its own number."""
        u, v = self._in_order(features)
        thresholds = noise[..., self.order]
        sets = torch.zeros_like(noise)
        for label in range(self.n_labels):
            p = torch.sigmoid(u[:, None, label] + sets @ v[label])  # [B, K]
            sets[..., label] = (thresholds[..., label] < p).to(sets.dtype)
        return self._in_label_order(sets).bool()

    def _weights(self) -> Tensor:
        """V [L, L]: row l has the weights of the labels before l, and 0 elsewhere."""
        rank = self.order.argsort()
        return LABEL_SCALE * self.on_labels * (rank[:, None] > rank)

    def _in_order(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """U [B, L] and V [L, L] with the labels in the order of the chain."""
        u: Tensor = self.by_label(self.trunk(features))
        return u[:, self.order], self._weights()[self.order][:, self.order]

    def _in_label_order(self, values: Tensor) -> Tensor:
        """Values [..., L] from the order of the chain to that of the labels."""
        return values[..., self.order.argsort()]


def _beam(u: Tensor, v: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Beam search for the most probable sets; with a width of 2^L the result is exact.

    Args:
        u: logits without the other labels, [B, L].
        v: weights of the labels before each label, [L, L], 0 on and above the diagonal.
        width: number of sets that are kept after each label.

    Returns:
        Sets of zeros and ones [B, K, L], most probable first, and log p(y|x) [B, K]; K is at most 2^L.
    """
    sets, log_p = torch.zeros_like(u)[:, None], torch.zeros_like(u[:, :1])
    images = torch.arange(u.shape[0], device=u.device)[:, None]
    for label in range(u.shape[1]):
        logit = u[:, label, None] + sets @ v[label]  # [B, K]
        both = torch.stack([log_p + logsigmoid(-logit), log_p + logsigmoid(logit)], dim=2).flatten(1)
        log_p, which = both.topk(min(width, both.shape[1]), dim=1)
        parents = images * sets.shape[1] + which // 2
        # Whole rows are copied: with 374 labels this is five times faster than `gather`.
        sets = sets.flatten(0, 1).index_select(0, parents.flatten()).view(*which.shape, -1)
        sets[:, :, label] = (which % 2).to(u.dtype)
    return sets, log_p
