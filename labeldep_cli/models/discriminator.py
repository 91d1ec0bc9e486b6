"""The discriminator D, a critic of label sets (Sects. 3.1, 4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from labeldep_cli.compute.seeded import seeded
from labeldep_cli.models.standardizing import Standardizing


class Discriminator(Standardizing):
    """(label sets [B, L] or [B, K, L], image features [B, F]) -> scores [B] or [B, K].

    Features and label set are each projected linearly to `projection` dimensions and concatenated. `layers` x [Linear,
    LeakyReLU] and a last linear layer map them to one number (Sect. 4.1). There is no batch norm, since the gradient
    penalty is computed for each image alone.

    Args:
        n_labels: L.
        feature_dim: F.
        layers, width: of the feedforward part.
        projection: width of each projection.
        slope: of the LeakyReLU.
        conditional: False leaves out the image: row (d) of Table 3.
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
        self.slope = slope
        self.project_labels = nn.Linear(n_labels, projection)
        self.project_features = nn.Linear(feature_dim, projection) if conditional else None
        widths = [2 * projection if conditional else projection, *[width] * layers]
        stack: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            stack += [nn.Linear(inputs, outputs), nn.LeakyReLU(slope)]
        self.score = nn.Sequential(*stack, nn.Linear(widths[-1], 1))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Score how real label sets are for their images.

        Args:
            y: label sets [B, L], or K label sets for each image [B, K, L]; values in [0, 1].
            z: image features [B, F]; unused by an unconditional critic.

        Returns:
            Scores [B] or [B, K]; higher is more real. In the dtype of D's weights, also under autocast.
        """
        weight = self.project_labels.weight
        y, z = y.to(weight.dtype), self.standardized(z.to(weight.dtype))
        with torch.autocast(weight.device.type, enabled=False):
            return self._score_many(y, z) if y.dim() == 3 else self._score(y, z)

    def flip_gains(self, y: Tensor, z: Tensor, labels: Tensor) -> Tensor:
        """How much the score rises when one label is flipped: added if it is absent, else removed.

        Up to the first LeakyReLU D is linear, so a flip is one column of the label map, not another pass over L labels.

        Args:
            y: label sets of zeros and ones [B, L].
            z: image features [B, F].
            labels: numbers of the labels to flip, one at a time, int64 [B, M].

        Returns:
            [B, M].
        """
        weight = self.project_labels.weight
        y, z = y.to(weight.dtype), self.standardized(z.to(weight.dtype))
        with torch.autocast(weight.device.type, enabled=False):
            label_map, shared = self._first_layer(z)
            first = shared + (y @ label_map.T)[:, None]  # [B, 1, W]
            change = (1 - 2 * y.gather(1, labels))[:, :, None] * label_map.T[labels]  # [B, M, W]
            return self._after_first(first + change) - self._after_first(first)

    @property
    def linears(self) -> list[nn.Linear]:
        """The linear layers of the feedforward part; the last one gives the score."""
        return [layer for layer in self.score if isinstance(layer, nn.Linear)]

    @property
    def label_columns(self) -> Tensor:
        """The first layer's weights for the projected label set, [W, projection]."""
        return self.linears[0].weight[:, -self.project_labels.out_features :]

    @property
    def image_columns(self) -> Tensor:
        """The first layer's weights for the projected image, [W, projection]; empty for an unconditional critic."""
        return self.linears[0].weight[:, : -self.project_labels.out_features]

    def label_map(self) -> tuple[Tensor, Tensor]:
        """The label set's part of the first layer as one linear map: D is linear up to the first LeakyReLU.

        Returns:
            C [W, L] and c [W]: the first layer's output is C y + c plus the image's part.
        """
        columns = self.label_columns
        return columns @ self.project_labels.weight, self.linears[0].bias + columns @ self.project_labels.bias

    def _score(self, y: Tensor, z: Tensor) -> Tensor:
        projected = self.project_labels(y)
        if self.project_features is not None:
            projected = torch.cat([self.project_features(z), projected], dim=1)
        scores: Tensor = self.score(projected).squeeze(1)
        return scores

    def _score_many(self, y: Tensor, z: Tensor) -> Tensor:
        """The same for y [B, K, L] -> [B, K]; the image's part is computed once per image."""
        label_map, shared = self._first_layer(z)
        return self._after_first(shared + y @ label_map.T)

    def _first_layer(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The label map [W, L], and the part of the first layer's output that all sets of an image share, [B, 1, W]."""
        label_map, shared = self.label_map()
        if self.project_features is not None:
            shared = (shared + self.project_features(z) @ self.image_columns.T)[:, None, :]
        return label_map, shared

    def _after_first(self, hidden: Tensor) -> Tensor:
        """Scores from the first layer's output, [B, K, W] -> [B, K]."""
        for layer in list(self.score)[1:]:
            hidden = layer(hidden)
        return hidden.squeeze(2)


def seeded_critic(n_labels: int, feature_dim: int, shape: Mapping[str, Any], seed: int) -> Discriminator:
    """A critic whose initial weights depend only on `seed`; torch's global random state is left unchanged."""
    with seeded(seed):
        return Discriminator(n_labels, feature_dim, **shape)
