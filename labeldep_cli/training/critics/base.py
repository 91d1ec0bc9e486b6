"""The interface of all critics. B batch, L labels, F feature width, K samples per image, N validation rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from labeldep_cli.compute.distributed import World
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.models.discriminator import Discriminator

BatchName = Literal["matched", "generated", "mismatched"]
"""The three kinds of pairs of Sect. 3.3: (y, x), (y_hat, x) and (y', x)."""


class Examples(NamedTuple):
    """Rows of the training data.

    Attributes:
        y: labels [B, L]: 1, 0, or -1 where unknown.
        z: image features [B, F].
    """

    y: Tensor
    z: Tensor


class UpdateInputs(NamedTuple):
    """The inputs of one update of D; all tensors are on D's device and need no gradient.

    Attributes:
        batches: the batches of `CriticObjective.batches`, by name. Several names may share one batch.
        logits: of G for the batch `CriticObjective.sampled_batch`, [B, L].
        noise: uniform on [0, 1), with the shapes and in the order of `CriticObjective.noise_shapes`.
        other_labels: labels of other rows [B, L], one for each row of the batch "mismatched"; None without that batch.
        global_batch_size: rows of each batch over all processes that share it; B for one process.
        drawn: label sets that a joint head drew with the noise, [B, K, L]; None if labels are independent given the
            logits.
    """

    batches: Mapping[BatchName, Examples]
    logits: Tensor
    noise: Sequence[Tensor]
    other_labels: Tensor | None
    global_batch_size: int
    drawn: Tensor | None = None


class CriticObjective(ABC):
    """How one kind of critic D is trained, and how its quality is measured.

    The object has settings but no network: D and its optimizer are arguments of `update`.

    Args:
        config: resolved settings.

    Attributes:
        loss_names: names of the losses that `update` returns; it may return further measurements, for the record.
        sampled_batch: the batch for which G generates label sets; its rows need the images, not only their features.
        positive_settings: settings that only this kind uses, and that must be above 0.
        expected_beta: D's weight at test time according to theory, used if validation rows do not decide; None if there
            is no such value.
    """

    loss_names: ClassVar[tuple[str, ...]]
    sampled_batch: ClassVar[BatchName]
    positive_settings: ClassVar[tuple[str, ...]] = ()
    expected_beta: ClassVar[float | None] = None

    def __init__(self, config: AdversarialConfig) -> None:
        self.config = config

    @property
    @abstractmethod
    def batches(self) -> tuple[BatchName, ...]:
        """Names of the batches that an update takes."""

    @abstractmethod
    def noise_shapes(self, batch_size: int, n_labels: int) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the uniform noise that an update needs for its sampled batch.

        Args:
            batch_size: B.
            n_labels: L.

        Returns:
            Shapes, each [B, ...], by the purpose of the draw (see `draws.keyed`).
        """

    @abstractmethod
    def update(
        self, network: Discriminator, optimizer: torch.optim.Optimizer, inputs: UpdateInputs, world: World
    ) -> dict[str, Tensor]:
        """Take one optimizer step of D.

        Args:
            network: D.
            optimizer: the optimizer of D.
            inputs: this process's part of the batches.
            world: the processes that train together; losses and gradients are summed over them.

        Returns:
            Losses of the global batch, detached scalars by name.
        """

    @staticmethod
    @abstractmethod
    def quality(real_scores: Tensor, fake_scores: Tensor) -> float:
        """How well D separates real label sets from samples of G.

        Args:
            real_scores: D(y, x) [N].
            fake_scores: D(y_hat, x) [N, K] of hard samples of G.

        Returns:
            A number, higher is better.
        """
