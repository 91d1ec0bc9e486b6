"""The base class of the generator's heads. B batch, S regions, F feature width, L labels, N images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from labeldep_cli.models.standardizing import Standardizing


class Head(Standardizing):
    """Features -> logits [B, L]; `Generator` standardises them first, if the head was told how.

    Args:
        feature_dim: F.
        n_labels: L.
        hidden: width of the inner layers; 0 for the head's default.

    Attributes:
        spatial: the head takes regions [B, S, F], the S positions of the last feature map, instead of features [B, F].
        sequential: the head predicts labels one after the other. It has its own loss, `sequence_loss`, and no gradient
            flows through the predicted set.
        default_width: of the inner layers.
    """

    spatial: ClassVar[bool] = False
    sequential: ClassVar[bool] = False
    default_width: ClassVar[int] = 0

    def __init__(self, feature_dim: int, n_labels: int, hidden: int = 0) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        self.n_labels = n_labels
        self.width = hidden or self.default_width

    def fit_to_labels(self, labels: Tensor) -> None:
        """Compute statistics of the training labels, once before training, and keep them in buffers.

        Args:
            labels: int8 [N, L], 0 or 1; -1 where unknown.
        """

    def start_from_shares(self, labels: Tensor) -> None:
        """Let the initial probabilities of standardised features be near the labels' shares, once before training.

        The mean of standardised features is 0, so a head cannot learn from them how frequent a label is. Only its
        biases can, and from 0 they need thousands of updates.

        Args:
            labels: int8 [N, L], 0 or 1; -1 where unknown.
        """

    def forward(self, features: Tensor) -> Tensor:
        """Logits [B, L] of features [B, F] or regions [B, S, F]; the head's predicted set is p > 0.5."""
        raise NotImplementedError

    def sequence_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """The loss of a sequential head.

        Args:
            features: [B, F], or regions [B, S, F].
            y: [B, L], 0 or 1; -1 where unknown. Unknown labels do not count.

        Returns:
            Scalar in nats: summed over the labels of an image, averaged over images.
        """
        raise NotImplementedError
