"""The generator G: a multi-label classifier (Sect. 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labeldep_cli.compute.kernels import repeatable_attention
from labeldep_cli.models.heads.base import Head


class Generator(nn.Module):
    """x -> logits [B, L]; sigmoid of the logits is the label distribution of Sect. 3.1.

    Args:
        encoder: x -> features [B, F] (or regions [B, S, F]): the identity over a cache, a trainable CNN over images.
        head: features -> logits.
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, L]; the head computes in full precision under mixed precision too."""
        with repeatable_attention(x):
            return self.classify(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """What the encoder sees of x: [B, F], or regions [B, S, F]."""
        features: Tensor = self.encoder(x).to(torch.get_default_dtype())
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits [B, L] of features, in full precision."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(features)
        return logits

    def loss(self, x: Tensor, y: Tensor, of_logits: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """What G is trained on without a critic.

        Args:
            x: images, features [B, F] or regions [B, S, F].
            y: labels [B, L]; -1 where unknown.
            of_logits: (logits, y) -> loss; a head that picks labels one after the other has its own instead.

        Returns:
            Scalar.
        """
        if not self.head.sequential:
            return of_logits(self(x), y)
        with repeatable_attention(x):
            features = self.features(x)
            with torch.autocast(features.device.type, enabled=False):
                return self.head.sequence_loss(features, y)
