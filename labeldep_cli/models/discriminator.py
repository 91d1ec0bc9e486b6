"""The discriminator D, a critic of label sets (Sects. 3.1, 4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn


class Discriminator(nn.Module):
    """(label sets [B, L] or [B, K, L], image features [B, F]) -> scores [B] or [B, K].

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
        """How real label sets look for their images.

        Args:
            y: label sets [B, L], or K of each image [B, K, L]; values in [0, 1].
            z: image features [B, F]; not looked at by an unconditional critic.

        Returns:
            Scores [B], or [B, K]; higher is more real.
        """
        if y.dim() == 3:
            return self._score_many(y, z)
        seen = self.project_labels(y)
        if self.project_features is not None:
            seen = torch.cat([self.project_features(z), seen], dim=1)
        scores: Tensor = self.score(seen).squeeze(1)
        return scores

    def _score_many(self, y: Tensor, z: Tensor) -> Tensor:
        """The same for y [B, K, L] -> [B, K], with all that is the image's alone computed once an image.

        Up to the first LeakyReLU D is linear: the image's part of it is shared by the K sets, and the two linear maps
        of a label set are one.
        """
        first, *rest = cast(Iterable[nn.Linear], self.score)  # an nn.Sequential knows only that they are modules
        own = first.weight[:, -self.project_labels.out_features :]  # [W, projection]
        shared = first.bias + own @ self.project_labels.bias
        if self.project_features is not None:
            image = first.weight[:, : self.project_features.out_features]
            shared = (shared + self.project_features(z) @ image.T)[:, None, :]  # [B, 1, W]
        hidden: Tensor = shared + y @ (own @ self.project_labels.weight).T  # [B, K, W]
        for layer in rest:
            hidden = layer(hidden)
        return hidden.squeeze(2)
