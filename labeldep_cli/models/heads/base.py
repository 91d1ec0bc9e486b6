"""What every head of the generator is. B batch, S regions, F feature width, L labels, N images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn


class Head(nn.Module):
    """Features -> logits [B, L].

    Args:
        feature_dim: F.
        n_labels: L.
        hidden: width of its inner layers; 0 for its own default.

    Attributes:
        spatial: it takes regions [B, S, F], the S positions of the last feature map, instead of features [B, F].
        sequential: it picks labels one after the other. It has a loss of its own, and no gradient flows through the set
            that it picks.
        default_width: of its inner layers.
    """

    spatial: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    default_width: ClassVar[int] = 0

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.n_labels = n_labels
        self.width = hidden or self.default_width

    def see_labels(self, labels: Tensor) -> None:
        """Look at the training labels, once, before training; what is learned of them stands in buffers.

        Args:
            labels: int8 [N, L], 0 or 1; -1 where unknown.
        """

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L] of features [B, F], or of regions [B, S, F]; p > 0.5 gives the head's own predicted set."""
        raise NotImplementedError

    def sequence_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """The loss of a sequential head.

        Args:
            features: [B, F], or regions [B, S, F].
            y: [B, L], 0 or 1; -1 where unknown, which counts nowhere.

        Returns:
            Scalar in nats: summed over an image's labels, averaged over images.
        """
        raise NotImplementedError
