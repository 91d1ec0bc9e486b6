"""Label powerset: one softmax over the label sets of train.

B images, F feature width, W width of the last layer's input, L labels, S kept sets, K sets per image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from labeldep_cli.compute.transfer import in_double
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.known_sets import agreeing, known_sets

_LEAST = 1e-300
"""A marginal probability stays this far from 0 and 1, so that its logit is finite; a float64."""

_BLOCK = 256
"""Sets whose probabilities are summed in one matrix product."""


class PowersetHead(Head):
    """Features [B, F] -> a distribution over the label sets of train: one softmax with a class per set.

    Label powerset: Boutell, Luo, Shen and Brown, "Learning multi-label scene classification", Pattern Recognition 2004;
    Tsoumakas and Katakis, "Multi-Label Classification: An Overview", 2007. The paper's classes have nothing in common.
    Here the score of a set y is own_y(x) + sum of u_l(x) over its labels l: a part of its own, and a part that all sets
    with the label share. The own part starts at 0. With the own part alone this is multinomial logistic regression.

    A set that is not kept has no own part, so its labels alone score it. In training such a row is one more candidate
    beside the kept sets. Prediction and sampling only know the kept sets.

    An unknown label: the likelihood is that of all kept sets that agree with the known labels. The list of sets comes
    from the rows with all labels known. If there is none, an unknown label counts as absent for the list.

    The logits of `forward` are those of the marginals: log p(y_l = 1 | x) - log p(y_l = 0 | x).
    """

    own_loss: ClassVar[str | None] = "sets"
    joint: ClassVar[bool] = True

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        self.trunk = nn.Sequential(nn.Linear(feature_dim, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.inner = hidden or feature_dim
        self.by_label = nn.Linear(self.inner, n_labels)
        self.sets: Tensor
        # Before the head has seen labels: the empty set, and each label alone.
        self.register_buffer("sets", torch.cat([torch.zeros(1, n_labels), torch.eye(n_labels)]).bool())
        self._resize(n_labels + 1)

    def _resize(self, count: int) -> None:
        device = self.by_label.weight.device
        self.own_weight = nn.Parameter(torch.zeros(count, self.inner, device=device))
        self.own_bias = nn.Parameter(torch.zeros(count, device=device))

    def fit_to_labels(self, labels: Tensor) -> None:
        """Keep the distinct label sets, from frequent to rare; the own parts become 0."""
        self.sets = known_sets(labels)[0].to(self.sets.device)
        self._resize(len(self.sets))

    @torch.no_grad()
    def start_from_shares(self, labels: Tensor) -> None:
        """The biases of the own parts become the log shares of the kept sets among the rows."""
        counts = known_sets(labels)[1].to(self.own_bias)
        self.own_bias.copy_((counts / counts.sum()).log())
        self.by_label.bias.zero_()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Take over the number of sets of a checkpoint: it depends on the training rows."""
        stored = state_dict.get(f"{prefix}sets")
        if isinstance(stored, Tensor) and stored.shape != self.sets.shape and stored.shape[1:] == self.sets.shape[1:]:
            self.sets = self.sets.new_zeros(stored.shape)
            self._resize(len(stored))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L] of the marginals."""
        p = in_double(self._log_p(features)).exp()  # [B, S]; float64 reaches down to e^-745
        sets = in_double(self.sets)
        present, absent = p @ sets, p @ (1 - sets)
        return (present.clamp(min=_LEAST).log() - absent.clamp(min=_LEAST).log()).to(features)

    def set_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """Minus the log probability of the known labels, in nats, averaged over images."""
        inner = self.trunk(features)
        scores = self._scores(inner)  # [B, S]
        agrees = agreeing(self.sets, y)  # [B, S]
        unseen = ~agrees.any(dim=1, keepdim=True)
        extra = (self.by_label(inner) * (y > 0)).sum(dim=1, keepdim=True).masked_fill(~unseen, -torch.inf)
        right = torch.cat([scores.masked_fill(~agrees, -torch.inf), extra], dim=1).logsumexp(dim=1)
        return (torch.cat([scores, extra], dim=1).logsumexp(dim=1) - right).mean()

    def posterior(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The most probable kept sets, bool [B, K, L] with log probabilities [B, K]; K is at most S."""
        log_p, which = self._log_p(features).topk(min(count, len(self.sets)), dim=1)
        return self.sets[which], log_p

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Kept sets by the inverse of the cumulative distribution; only the first number of each set is used."""
        total = _cumulative(in_double(self._log_p(features)).exp())  # [B, S]
        which = torch.searchsorted(total, in_double(noise[..., 0]).contiguous(), right=True).to(features.device)
        return self.sets[which.clamp(max=len(self.sets) - 1)]

    def _scores(self, inner: Tensor) -> Tensor:
        """The scores [B, S] of the kept sets: their own parts and the sums over their labels."""
        by_labels: Tensor = self.by_label(inner) @ self.sets.to(inner.dtype).T
        return inner @ self.own_weight.T + self.own_bias + by_labels

    def _log_p(self, features: Tensor) -> Tensor:
        return self._scores(self.trunk(features)).log_softmax(dim=1)


def _cumulative(p: Tensor) -> Tensor:
    """Cumulative sums along the rows of [B, S], by matrix products: torch's own are not reproducible on a GPU."""
    blocks = pad(p, (0, -p.shape[1] % _BLOCK)).view(len(p), -1, _BLOCK)  # [B, S / block, block]
    within = blocks @ torch.ones_like(p[:1, :1]).expand(_BLOCK, _BLOCK).triu()
    totals = within[:, :, -1]
    before = totals @ torch.ones_like(p[:1, :1]).expand(totals.shape[1], totals.shape[1]).triu(1)
    total: Tensor = (within + before[:, :, None]).flatten(1)[:, : p.shape[1]]
    return total.contiguous()
