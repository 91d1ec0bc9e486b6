"""The paper's critic: a Wasserstein distance with a gradient penalty (Sect. 3.3, Eqs. 4 and 5)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from labeldep_cli.compute.distributed import World
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.critics.base import BatchName, CriticObjective, UpdateInputs
from labeldep_cli.training.critics.label_sets import known, present, sampled
from labeldep_cli.training.critics.wasserstein_gradient import Pairs, critic_update
from labeldep_cli.training.updates import update


class WassersteinCritic(CriticObjective):
    """WGAN-GP on label sets: L_D of Eq. 4, with the gradient written by hand in `wasserstein_gradient`.

    An update takes three batches (Sect. 4.1: "this is essential"), or two if there are no negatives.
    """

    loss_names: ClassVar[tuple[str, ...]] = ("critic", "penalty", "wasserstein")
    sampled_batch: ClassVar[BatchName] = "generated"

    @property
    def batches(self) -> tuple[BatchName, ...]:
        """Matched and generated pairs; with negatives also mismatched pairs."""
        return ("matched", "generated", "mismatched") if self.config.with_negatives else ("matched", "generated")

    def noise_shapes(self, batch_size: int, n_labels: int) -> dict[str, tuple[int, ...]]:
        """Noise of the soft samples, and the interpolation weight of y* in Eq. 5, one per image."""
        return {"critic noise": (batch_size, n_labels), "interpolation": (batch_size, 1)}

    def update(
        self, network: Discriminator, optimizer: torch.optim.Optimizer, inputs: UpdateInputs, world: World
    ) -> dict[str, Tensor]:
        """Take one optimizer step on L_D; also returns the mean gradient norm at y* as "critic_gradient"."""
        config = self.config
        matched, generated = inputs.batches["matched"], inputs.batches["generated"]
        noise, weight = inputs.noise  # [B, L], [B, 1]
        fake_set = sampled(inputs.logits, generated.y, noise, config.inverse_temperature, config.sampling)  # [B, L]
        mismatched = None
        if inputs.other_labels is not None:
            y, z = inputs.batches["mismatched"]
            mismatched = Pairs(known(y) * present(inputs.other_labels), network.standardized(z))  # (y', x)
        computed = critic_update(
            network,
            Pairs(present(matched.y), network.standardized(matched.z)),
            Pairs(fake_set, network.standardized(generated.z)),
            mismatched,
            between=weight * present(generated.y) + (1 - weight) * fake_set,  # y* of Eq. 5
            lambda_gp=config.lambda_gp,
            global_batch_size=inputs.global_batch_size,
        )
        losses = {
            "critic": computed.loss,
            "penalty": computed.penalty,
            "wasserstein": computed.wasserstein,
            "critic_gradient": computed.slope,
        }
        return update(optimizer, computed.gradients, losses, world, config.max_gradient_norm)

    @staticmethod
    def quality(real_scores: Tensor, fake_scores: Tensor) -> float:
        """The Wasserstein estimate, mean D(y, x) - mean D(y_hat, x)."""
        return float(real_scores.mean() - fake_scores.mean())
