"""The generator G: a multi-label classifier (Sect. 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labeldep_cli.models.heads.base import Head


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
