"""Independent sigmoids: the paper's own head (Sect. 3.1)."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from labeldep_cli.models.heads.base import Head, log_odds


class LinearHead(Head, nn.Sequential):
    """Features [B, F] -> logits [B, L]: one linear layer, or a hidden layer with a ReLU before it.

    Args:
        feature_dim: F.
        n_labels: L.
        hidden: width of the hidden layer; 0 for none.
    """

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__(feature_dim, n_labels, hidden)
        if hidden:
            self.extend([nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Linear(hidden, n_labels)])
        else:
            self.append(nn.Linear(feature_dim, n_labels))

    @torch.no_grad()
    def start_from_shares(self, labels: Tensor) -> None:
        """The bias of the last layer becomes the log odds of the labels, with half a row added to each side."""
        cast(nn.Linear, self[-1]).bias.copy_(log_odds(labels))

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L]."""
        for layer in self:
            features = layer(features)
        return features
