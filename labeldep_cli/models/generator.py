"""The generator G: a multi-label classifier (Sect. 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from labeldep_cli.compute.kernels import repeatable_attention
from labeldep_cli.models.heads.base import Head


class Generator(nn.Module):
    """x -> logits [B, L]; the sigmoid of the logits is the label distribution of Sect. 3.1.

    Args:
        encoder: x -> features [B, F] or regions [B, S, F]: identity for cached features, a trainable CNN for images.
        head: features -> logits.
    """

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, L]; the head computes in full precision, also under mixed precision."""
        with repeatable_attention(x):
            return self.classify(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The encoder's output for x: features [B, F] or regions [B, S, F]."""
        features: Tensor = self.encoder(x).to(torch.get_default_dtype())
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Logits [B, L] of features, in full precision."""
        with torch.autocast(features.device.type, enabled=False):
            logits: Tensor = self.head(self.head.standardized(features))
        return logits

    def posterior(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The most probable label sets of a joint head and their log p(y|x), in full precision (`Head.posterior`)."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head.posterior(self.head.standardized(features), count)

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Label sets [B, K, L] drawn from a joint head, in full precision (`Head.sample`)."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head.sample(self.head.standardized(features), noise)

    def loss(self, x: Tensor, y: Tensor, of_logits: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """The loss that G is trained with when there is no critic.

        Args:
            x: images, features [B, F] or regions [B, S, F].
            y: labels [B, L]; -1 where unknown.
            of_logits: (logits, y) -> loss; a head with its own loss uses that instead.

        Returns:
            Scalar.
        """
        if self.head.own_loss is None:
            return of_logits(self(x), y)
        with repeatable_attention(x):
            features = self.features(x)
            with torch.autocast(features.device.type, enabled=False):
                return self.head.set_loss(self.head.standardized(features), y)
