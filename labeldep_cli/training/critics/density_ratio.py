"""A critic that is a density ratio, made for `--decision rerank` (not in the paper)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from labeldep_cli.compute.distributed import World
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.critics.base import BatchName, CriticObjective, UpdateInputs
from labeldep_cli.training.critics.label_sets import real_and_sampled
from labeldep_cli.training.losses import density_ratio_loss
from labeldep_cli.training.updates import Part, update_in_parts


class DensityRatioCritic(CriticObjective):
    """Ranking noise-contrastive estimation: D learns log p(y|x) / p_G(y|x) (`losses.density_ratio_loss`).

    The loss compares label sets of the same image, so an update takes one batch and no mismatched pairs.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("critic", "margin")
    sampled_batch: ClassVar[BatchName] = "matched"
    positive_settings: ClassVar[tuple[str, ...]] = ("noise_samples",)
    expected_beta: ClassVar[float | None] = 1.0

    @property
    def batches(self) -> tuple[BatchName, ...]:
        """Only matched pairs."""
        return ("matched",)

    def noise_shapes(self, batch_size: int, n_labels: int) -> dict[str, tuple[int, ...]]:
        """Noise of the K hard samples of each image."""
        return {"critic noise": (batch_size, self.config.samples_per_image, n_labels)}

    def update(
        self, network: Discriminator, optimizer: torch.optim.Optimizer, inputs: UpdateInputs, world: World
    ) -> dict[str, Tensor]:
        """Take one optimizer step; also returns "margin", which is mean D(y, x) - mean D(y_hat, x)."""
        y, z = inputs.batches["matched"]
        (noise,) = inputs.noise  # [B, K, L]
        parts: list[Part] = []
        if len(y):  # a batch may have fewer rows than there are processes
            share = len(y) / inputs.global_batch_size
            with torch.enable_grad():
                scores = network(real_and_sampled(inputs.logits, y, noise, inputs.drawn), z)  # [B, 1 + K]
                real, fake = scores[:, 0], scores[:, 1:]
                loss = share * density_ratio_loss(real, fake)
                parts.append(Part(loss, (loss, share * (real.mean() - fake.mean()))))
        return update_in_parts(optimizer, self.loss_names, parts, world, self.config.max_gradient_norm)

    @staticmethod
    def quality(real_scores: Tensor, fake_scores: Tensor) -> float:
        """Minus the density-ratio loss."""
        return -float(density_ratio_loss(real_scores, fake_scores))
