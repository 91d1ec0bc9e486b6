"""The base class of the generator's heads.

B batch, S regions, F feature width, L labels, N images, K sets per image.
"""

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
        own_loss: name of the head's own loss, `set_loss`, in the record of losses; None if it is trained on a loss of
            independent labels. No gradient of a critic flows through the sets of a head with its own loss.
        joint: the head is a distribution over label sets: it has `set_loss`, `posterior` and `sample`.
        waits: whether the logits need a decision of the host that depends on values on the device.
        default_width: of the inner layers.
    """

    spatial: ClassVar[bool] = False
    own_loss: ClassVar[str | None] = None
    joint: ClassVar[bool] = False
    waits: ClassVar[bool] = False
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

    def set_loss(self, features: Tensor, y: Tensor) -> Tensor:
        """The loss of a head with its own loss.

        Args:
            features: [B, F], or regions [B, S, F].
            y: [B, L], 0 or 1; -1 where unknown. Unknown labels do not count.

        Returns:
            Scalar in nats: summed over the labels of an image, averaged over images.
        """
        raise NotImplementedError

    def posterior(self, features: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """The most probable label sets of a joint head.

        Args:
            features: [B, F].
            count: maximum number of sets per image.

        Returns:
            Sets, bool [B, K, L], most probable first and all different; their log p(y|x), [B, K]. K is the same for all
            images. The probabilities of all sets of the head sum to 1, those of the K sets to at most 1.
        """
        raise NotImplementedError

    def sample(self, features: Tensor, noise: Tensor) -> Tensor:
        """Label sets drawn from a joint head.

        Args:
            features: [B, F].
            noise: uniform on [0, 1), [B, K, L].

        Returns:
            bool [B, K, L].
        """
        raise NotImplementedError


def log_odds(labels: Tensor) -> Tensor:
    """The log odds of each label in int8 [N, L], with half a row added to each side; unknown labels do not count."""
    present, absent = (labels == 1).sum(dim=0) + 0.5, (labels == 0).sum(dim=0) + 0.5
    return (present / absent).log()
