"""The discriminator D, a critic of label sets (Sects. 3.1, 4.1)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    """(label sets [B, L], image features [B, F]) -> scores [B].

    Features and label set are each projected linearly to `projection` dimensions, concatenated, and fed through
    `layers` x [Linear, LeakyReLU] to one number (Sect. 4.1). There is no batch norm: the gradient penalty is one per
    image.

    Args:
        n_labels: L.
        feature_dim: F.
        layers, width: of the feedforward part.
        projection: width of either projection.
        slope: of the LeakyReLU.
        conditional: False drops the image: row (d) of Table 3.
    """

    def __init__(
        self,
        n_labels: int,
        feature_dim: int,
        layers: int,
        width: int,
        projection: int,
        slope: float,
        conditional: bool = True,
    ) -> None:
        super().__init__()
        self.project_labels = nn.Linear(n_labels, projection)
        self.project_features = nn.Linear(feature_dim, projection) if conditional else None
        widths = [2 * projection if conditional else projection, *[width] * layers]
        stack: list[nn.Module] = []
        for taken, given in pairwise(widths):
            stack += [nn.Linear(taken, given), nn.LeakyReLU(slope)]
        self.score = nn.Sequential(*stack, nn.Linear(widths[-1], 1))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """How real a label set looks for an image.

        Args:
            y: label sets [B, L], values in [0, 1].
            z: image features [B, F]; not looked at by an unconditional critic.

        Returns:
            Scores [B]; higher is more real.
        """
        seen = self.project_labels(y)
        if self.project_features is not None:
            seen = torch.cat([self.project_features(z), seen], dim=1)
        scores: Tensor = self.score(seen).squeeze(1)
        return scores
