"""Networks that bring ready features, which have any scale, to mean 0 and deviation 1. B batch, F feature width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Moments(NamedTuple):
    """What standardising a feature needs.

    Attributes:
        mean: float32 [F].
        scale: float32 [F], the standard deviation; 1 for a constant feature, which is then 0.
    """

    mean: Tensor
    scale: Tensor


class Standardizing(nn.Module):
    """A network that may standardise its features; if it was not told how, they stay as they are.

    Attributes:
        feature_mean, feature_scale: buffers [F]; None for features that stay as they are.
    """

    feature_mean: Tensor | None
    feature_scale: Tensor | None

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("feature_mean", None)
        self.register_buffer("feature_scale", None)

    def standardize_by(self, moments: Moments) -> None:
        """Standardise features from now on."""
        self.feature_mean, self.feature_scale = (part.clone() for part in moments)

    def make_room(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        """Get the buffers that a checkpoint has for this network.

        Args:
            prefix: of the network's names, such as "critic".
            tensors: those of the checkpoint; a checkpoint of an older version has no such buffers.
        """
        if (mean := tensors.get(f"{prefix}.feature_mean")) is not None:
            self.standardize_by(Moments(torch.zeros_like(mean), torch.ones_like(mean)))

    def standardized(self, features: Tensor) -> Tensor:
        """The features as this network takes them, [B, F]."""
        if self.feature_mean is None or self.feature_scale is None:
            return features
        return (features - self.feature_mean) / self.feature_scale
