"""The generator G: a multi-label classifier (Sect. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Head(nn.Sequential):
    """Features [B, F] -> logits [B, L]; linear, or with one hidden layer.

    Args:
        feature_dim: F.
        n_labels: L.
        hidden: width of the hidden layer; 0 for none.
    """

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        if hidden:
            super().__init__(nn.Linear(feature_dim, hidden), nn.ReLU(), nn.Linear(hidden, n_labels))
        else:
            super().__init__(nn.Linear(feature_dim, n_labels))


class Generator(nn.Module):
    """x -> logits [B, L]; sigmoid of the logits is the label distribution of Sect. 3.1.

    Args:
        encoder: x -> features [B, F]: the identity over a cache, a trainable CNN over images.
        head: features -> logits.
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, L]; the head computes in float32 under mixed precision too."""
        features: Tensor = self.encoder(x).float()
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features)
        return logits


def seeded_head(feature_dim: int, n_labels: int, hidden: int, seed: int) -> Head:
    """A head with initial weights drawn from `seed` alone, leaving the global generator untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Head(feature_dim, n_labels, hidden)
