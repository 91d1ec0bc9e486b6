"""One update of the networks: the logistic step, and the adversarial step of Sects. 3.2 and 3.3.

A step is called with its number and a stream of batches; `requests` says which batches the stream must bring, so that
images are decoded ahead of their use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Protocol

import torch
from torch import Tensor, nn

from labeldep_cli.config import AdversarialConfig, TrainingConfig
from labeldep_cli.devices import mixed_precision
from labeldep_cli.evaluation.rerank import tune_beta
from labeldep_cli.inputs import Batch, Inputs, Request, in_order
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.training import losses
from labeldep_cli.training.draws import Order, mismatched_rows, random_views, uniform

_QUALITY_DRAWS = 16
"""Samples of G a validation image: they make the estimate steady where val is small."""


class Step(Protocol):
    """What `fit` runs.

    Attributes:
        order: of the training rows.
    """

    order: Order

    def requests(self, first: int) -> Iterator[Request]:
        """The batches of steps first, first + 1, ...: endless."""

    def __call__(self, step: int, batches: Iterator[Batch]) -> Mapping[str, Tensor]:
        """Make one update of G (and those of D before it); the losses, detached."""

    def quality(self, val: Inputs) -> float | None:
        """What chooses the best evaluation, higher is better; None for the generator's own score."""

    def beta(self, val: Inputs) -> float | None:
        """The critic's weight at test time, chosen on val; None without a critic."""

    def networks(self) -> Mapping[str, nn.Module]:
        """What a checkpoint keeps."""

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """What a checkpoint to go on from keeps too."""


class LogisticStep:
    """G on the logistic loss alone: pretraining (Sect. 3.2), and the control of the adversarial stage.

    Args:
        generator: G.
        inputs: the training rows.
        config: batch size, learning rate, seed.
        weight: of the loss; alpha for the control, so that it differs from the adversarial stage by the critic alone.
    """

    def __init__(self, generator: Generator, inputs: Inputs, config: TrainingConfig, weight: float = 1.0) -> None:
        self.generator = generator
        self.inputs = inputs
        self.config = config
        self.weight = weight
        self.order = Order.of(inputs, config)
        self.optimizer = generator_optimizer(generator, config)

    def requests(self, first: int) -> Iterator[Request]:
        """One batch a step: epochs of permuted rows."""
        return (generator_request(self.inputs, self.order, step) for step in count(first))

    def __call__(self, step: int, batches: Iterator[Batch]) -> Mapping[str, Tensor]:
        """Update G once."""
        x, y, _ = next(batches)
        with mixed_precision(self.inputs.device):
            loss = self.generator.loss(x, y, losses.LOSSES[self.config.loss])
        update(self.optimizer, self.weight * loss)
        return {"sequence" if self.generator.head.sequential else self.config.loss: loss.detach()}

    def quality(self, val: Inputs) -> float | None:
        """None: the generator's own score chooses the best evaluation."""
        return None

    def beta(self, val: Inputs) -> float | None:
        """None: there is no critic."""
        return None

    def networks(self) -> Mapping[str, nn.Module]:
        """G alone."""
        return {"generator": self.generator}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """G's."""
        return {"optimizer_g": self.optimizer}


class AdversarialStep:
    """`critic_steps` updates of D, then one of G (Eq. 2), unless G is frozen.

    Args:
        generator: G.
        critic: D.
        inputs: the training rows; their encoder is D's frozen f_ext.
        config: every symbol of the paper.
    """

    def __init__(self, generator: Generator, critic: Discriminator, inputs: Inputs, config: AdversarialConfig) -> None:
        self.generator = generator
        self.critic = critic
        self.inputs = inputs
        self.config = config = config.resolved()
        self.order = Order.of(inputs, config)
        self.optimizer_g = generator_optimizer(generator, config)
        self.optimizer_d = torch.optim.Adam(
            critic.parameters(), lr=config.critic_learning_rate, betas=(config.critic_beta1, config.critic_beta2)
        )
        self._update_critic = self._density_ratio if config.critic == "nce" else self._wasserstein
        # The density ratio compares sets for the same images; the paper's three batches are of different ones.
        self._kinds = ["matched"] if config.critic == "nce" else ["matched", "generated"]
        if config.with_negatives:
            self._kinds.append("mismatched")

    def requests(self, first: int) -> Iterator[Request]:
        """For each critic update three batches (Sect. 4.1: "this is essential"), then one for G."""
        for step in count(first):
            for key in self._critic_keys(step):
                for kind in self._kinds:
                    yield self._critic_request(kind, key, step)
            if not self.config.freeze_generator:
                yield generator_request(self.inputs, self.order, step)

    def __call__(self, step: int, batches: Iterator[Batch]) -> Mapping[str, Tensor]:
        """Update D `critic_steps` times and G once."""
        self.generator.train(not self.config.freeze_generator)
        told: dict[str, Tensor] = {}
        for key in self._critic_keys(step):
            told |= self._update_critic(key, batches)
        return told if self.config.freeze_generator else told | self._update_generator(step, next(batches))

    def networks(self) -> Mapping[str, nn.Module]:
        """G and D."""
        return {"generator": self.generator, "critic": self.critic}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """G's and D's."""
        return {"optimizer_g": self.optimizer_g, "optimizer_d": self.optimizer_d}

    @torch.no_grad()
    def quality(self, val: Inputs) -> float | None:
        """How well D tells real sets from hard samples of G on validation rows, higher is better.

        Returns:
            Minus the density-ratio loss, or the Wasserstein estimate mean D(y, x) - mean D(y_hat, x); None where G is
            trained too, and its own score chooses the best evaluation.
        """
        if not self.config.freeze_generator:
            return None
        self.generator.eval()
        real, fake = [], []
        for number, batch in enumerate(in_order(val)):
            sets = torch.cat([present(batch.y)[:, None], self._hard_samples(batch, _QUALITY_DRAWS, "val", number)], 1)
            scores = self.critic(sets, self._features(batch.x))  # [B, 1 + K]
            real.append(scores[:, 0])
            fake.append(scores[:, 1:])
        real_scores, fake_scores = torch.cat(real), torch.cat(fake)
        if self.config.critic == "nce":
            return -float(losses.density_ratio_loss(real_scores, fake_scores))
        return float(real_scores.mean() - fake_scores.mean())

    @torch.no_grad()
    def beta(self, val: Inputs) -> float | None:
        """The weight of D at test time (`--decision rerank`), chosen on validation rows."""
        self.generator.eval()
        rows = [(self.generator(batch.x), self._features(batch.x)) for batch in in_order(val)]
        logits, z = (torch.cat(part) for part in zip(*rows, strict=True))
        expected = 1.0 if self.config.critic == "nce" else None
        return tune_beta(self.critic, logits, z, val.labels.to(z.device), expected)

    def _wasserstein(self, key: int, batches: Iterator[Batch]) -> dict[str, Tensor]:
        config = self.config
        matched, generated = next(batches), next(batches)
        real = self.critic(present(matched.y), self._features(matched.x))  # D(y, x), [B]

        with torch.no_grad():
            fake_set = self._sample(generated, "critic noise", key)  # y_hat, [B, L]
        z = self._features(generated.x)  # [B, F]
        fake = self.critic(fake_set, z)  # D(y_hat, x), [B]

        mismatched = self._mismatched_scores(next(batches), key) if config.with_negatives else None
        weight = self._noise((len(fake), 1), "interpolation", key)
        penalty = losses.gradient_penalty(self.critic, present(generated.y), fake_set, z, weight)

        loss = losses.critic_loss(real, fake, mismatched) + config.lambda_gp * penalty  # Eq. 4
        update(self.optimizer_d, loss)
        return {
            "critic": loss.detach(),
            "penalty": penalty.detach(),
            "wasserstein": (real.mean() - fake.mean()).detach(),
        }

    def _density_ratio(self, key: int, batches: Iterator[Batch]) -> dict[str, Tensor]:
        """One update of a critic that learns log p(y|x) / p_G(y|x): real sets against hard samples, same images."""
        matched = next(batches)
        fake_sets = self._hard_samples(matched, self.config.samples_per_image, "critic", key)  # [B, K, L]
        sets = torch.cat([present(matched.y)[:, None], fake_sets], dim=1)
        scores = self.critic(sets, self._features(matched.x))  # [B, 1 + K]
        real, fake = scores[:, 0], scores[:, 1:]
        loss = losses.density_ratio_loss(real, fake)
        update(self.optimizer_d, loss)
        return {"critic": loss.detach(), "margin": (real.mean() - fake.mean()).detach()}

    def _mismatched_scores(self, batch: Batch, key: int) -> Tensor:
        """D(y', x), [B]: real label sets put to other images."""
        others = mismatched_rows(self.inputs.labels, batch.rows, self.config.seed, "mismatched labels", key)
        y = self.inputs.labels[others].to(batch.y)
        scores: Tensor = self.critic(known(batch.y) * present(y), self._features(batch.x))
        return scores

    def _update_generator(self, step: int, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        with mixed_precision(self.inputs.device):
            logits = self.generator(batch.x)  # [B, L]
        noise = self._noise(tuple(logits.shape), "generator noise", step)
        fake_set = known(batch.y) * losses.sample(logits, noise, config.inverse_temperature, config.sampling)
        fooling = losses.generator_loss(self.critic(fake_set, self._features(batch.x)))  # Eq. 3
        logistic = losses.LOSSES[config.loss](logits, batch.y)
        update(self.optimizer_g, fooling + config.alpha * logistic)  # Eq. 2
        return {"generator": fooling.detach(), config.loss: logistic.detach()}

    def _sample(self, batch: Batch, purpose: str, key: int) -> Tensor:
        """y_hat: label sets [B, L] drawn from G(x)."""
        with mixed_precision(self.inputs.device):
            logits = self.generator(batch.x)
        noise = self._noise(tuple(logits.shape), purpose, key)
        return known(batch.y) * losses.sample(logits, noise, self.config.inverse_temperature, self.config.sampling)

    @torch.no_grad()
    def _hard_samples(self, batch: Batch, count: int, purpose: str, key: int) -> Tensor:
        """Label sets of zeros and ones, `count` an image [B, K, L], each label there with G's probability."""
        with mixed_precision(self.inputs.device):
            p = torch.sigmoid(self.generator(batch.x))[:, None, :]  # [B, 1, L]
        noise = self._noise((len(p), count, p.shape[2]), f"{purpose} noise", key)
        return known(batch.y)[:, None, :] * (noise < p).to(p.dtype)

    @torch.no_grad()
    def _features(self, x: Tensor) -> Tensor:
        """Z = f_ext(x), float32 [B, F]; D sees float32 under mixed precision too."""
        with mixed_precision(self.inputs.device):
            z: Tensor = self.inputs.encoder(x)
        return pooled(z.float())

    def _noise(self, shape: tuple[int, ...], purpose: str, key: int) -> Tensor:
        return uniform(shape, self.config.seed, purpose, key).to(self.inputs.device)

    def _critic_keys(self, step: int) -> Iterator[int]:
        """The numbers of the critic's updates at a step of G; those of the warm-up are negative."""
        if step == 0:
            yield from range(-self.config.critic_warmup, 0)
        yield from range(step * self.config.critic_steps, (step + 1) * self.config.critic_steps)

    def _critic_request(self, kind: str, key: int, step: int) -> Request:
        rows = self.order.critic_rows(step, f"critic {kind}", key)
        views = random_views(len(rows), self.inputs.n_views, self.config.seed, f"critic {kind} views", key)
        return Request(rows, views)


def generator_request(inputs: Inputs, order: Order, step: int) -> Request:
    """G's batch at a step."""
    rows = order.generator_rows(step)
    return Request(rows, random_views(len(rows), inputs.n_views, order.seed, "views", step))


def generator_optimizer(generator: Generator, config: TrainingConfig) -> torch.optim.Optimizer:
    """Adam over G (Sect. 4.1)."""
    return torch.optim.Adam(generator.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2))


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss; other networks that it passed through keep their gradients out of theirs."""
    optimizer.zero_grad(set_to_none=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
        parameter.grad = gradient
    optimizer.step()


def present(y: Tensor) -> Tensor:
    """Labels [B, L] as the critic sees them: an unknown one (-1) is left out of every set."""
    return y.clamp(min=0)


def known(y: Tensor) -> Tensor:
    """1 where a label is known, 0 where not [B, L]: generated sets leave out the same labels as the real ones."""
    return (y >= 0).to(y.dtype)
