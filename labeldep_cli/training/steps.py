"""One update of the networks: the logistic step, and the adversarial step of Sects. 3.2 and 3.3.

A step is called with its number and a stream that brings the batches of each of its updates; `requests` says which
ones, and brings all that is drawn for them. So images are decoded ahead of their use, draws travel to the device in one
copy an update, and an update itself is a function of tensors that lie there: it draws nothing and waits for nothing.

Where several processes train together, all draws are those of the whole batch, of which each process takes its share;
every loss is a part of a mean over the whole batch, and losses and gradients are summed over the processes. So they
compute what one would. (DistributedDataParallel would average gradients of unequal shares alike, and is wrong for a
loss that autograd.grad has passed through, as the penalty's.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Protocol

import torch
from torch import Tensor, nn

from labeldep_cli.compute.devices import mixed_precision
from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import AdversarialConfig, TrainingConfig
from labeldep_cli.evaluation.rerank import tune_beta
from labeldep_cli.inputs.batches import Batch, Inputs, Request, in_order, requests_in_order
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.training import losses
from labeldep_cli.training.draws import Order, mismatched_rows, random_views, uniform
from labeldep_cli.training.updates import Part, adam, parts_of, update, update_in_parts
from labeldep_cli.training.wasserstein import Pairs, critic_update

_QUALITY_DRAWS = 16
"""Samples of G a validation image: they make the estimate steady where val is small."""


class Step(Protocol):
    """What `fit` runs.

    Attributes:
        order: of the training rows.
    """

    order: Order

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """The batches of each update of steps first, first + 1, ...: endless."""

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
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
        world: the processes that train together.
    """

    def __init__(
        self, generator: Generator, inputs: Inputs, config: TrainingConfig, weight: float = 1.0, world: World = ALONE
    ) -> None:
        self.generator = generator
        self.inputs = inputs
        self.config = config
        self.weight = weight
        self.order = Order.of(inputs, config)
        self.world = world
        self.optimizer = adam(generator, config.learning_rate, (config.beta1, config.beta2))

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """One batch a step: epochs of permuted rows."""
        for step in count(first):
            yield [share_of(generator_request(self.inputs, self.order, step), self.world)]

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """Update G once."""
        (batch,) = next(batches)
        of_logits = losses.loss_of_logits(self.config.loss, self.config.label_reduction)

        def parts() -> Iterator[Part]:
            for rows, share in parts_of(batch, self.config.accumulate):
                with mixed_precision(self.inputs.device):
                    loss = share * self.generator.loss(batch.x[rows], batch.y[rows], of_logits)
                yield Part(self.weight * loss, (loss,))

        name = "sequence" if self.generator.head.sequential else self.config.loss
        return update_in_parts(self.optimizer, (name,), parts(), self.world, self.config.max_gradient_norm)

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
        world: the processes that train together.
    """

    def __init__(
        self,
        generator: Generator,
        critic: Discriminator,
        inputs: Inputs,
        config: AdversarialConfig,
        world: World = ALONE,
    ) -> None:
        self.generator = generator
        self.critic = critic
        self.inputs = inputs
        self.world = world
        self.config = config = config.resolved()
        self.order = Order.of(inputs, config)
        self.optimizer_g = adam(generator, config.learning_rate, (config.beta1, config.beta2))
        self.optimizer_d = adam(critic, config.critic_learning_rate, (config.critic_beta1, config.critic_beta2))
        self._update_critic = self._density_ratio if config.critic == "nce" else self._wasserstein
        # The density ratio compares sets for the same images; the paper's three batches are of different ones.
        self._kinds = ["matched"] if config.critic == "nce" else ["matched", "generated"]
        self._sampled = self._kinds[-1]  # the batch that G looks at; D alone looks at the others
        if config.with_negatives:
            self._kinds.append("mismatched")

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """For each critic update three batches (Sect. 4.1: "this is essential"), then one for G."""
        for step in count(first):
            for key in self._critic_keys(step):
                yield [share_of(self._critic_request(kind, key), self.world) for kind in self._kinds]
            if not self.config.freeze_generator:
                yield [share_of(self._generator_request(step), self.world)]

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """Update D `critic_steps` times and G once."""
        self.generator.train(not self.config.freeze_generator)
        told: dict[str, Tensor] = {}
        for _ in self._critic_keys(step):
            told |= self._update_critic(*next(batches))
        return told if self.config.freeze_generator else told | self._update_generator(*next(batches))

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
        for (batch,) in val.stream(self._val_requests(val)):
            sets = torch.cat([present(batch.y)[:, None], self._hard_samples(batch)], dim=1)
            scores = self.critic(sets, self._features(batch))  # [B, 1 + K]
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
        rows = [(self.generator(batch.x), self._features(batch)) for batch in in_order(val)]
        logits, z = (torch.cat(part) for part in zip(*rows, strict=True))
        expected = 1.0 if self.config.critic == "nce" else None
        return tune_beta(self.critic, logits, z, val.device_labels, expected)

    def _wasserstein(self, matched: Batch, generated: Batch, mismatched: Batch | None = None) -> dict[str, Tensor]:
        config = self.config
        noise, weight = generated.draws  # [B, L], [B, 1]
        fake_set = self._sample(generated, noise)  # y_hat, [B, L]
        found = critic_update(
            self.critic,
            Pairs(present(matched.y), self._features(matched)),
            Pairs(fake_set, self._features(generated)),
            None if mismatched is None else self._mismatched(mismatched),
            between=weight * present(generated.y) + (1 - weight) * fake_set,  # y* of Eq. 5
            lambda_gp=config.lambda_gp,
            whole=generated.whole,
        )
        told = {
            "critic": found.loss,
            "penalty": found.penalty,
            "wasserstein": found.wasserstein,
            "critic_gradient": found.slope,
        }
        return update(self.optimizer_d, found.gradients, told, self.world, self.config.max_gradient_norm)

    def _density_ratio(self, matched: Batch) -> dict[str, Tensor]:
        """One update of a critic that learns log p(y|x) / p_G(y|x): real sets against hard samples, same images."""
        sets = torch.cat([present(matched.y)[:, None], self._hard_samples(matched)], dim=1)  # [B, 1 + K, L]

        def parts() -> Iterator[Part]:
            for _, share in parts_of(matched, 1):
                scores = self.critic(sets, self._features(matched))  # [B, 1 + K]
                real, fake = scores[:, 0], scores[:, 1:]
                loss = share * losses.density_ratio_loss(real, fake)
                yield Part(loss, (loss, share * (real.mean() - fake.mean())))

        names = ("critic", "margin")
        return update_in_parts(self.optimizer_d, names, parts(), self.world, self.config.max_gradient_norm)

    def _mismatched(self, batch: Batch) -> Pairs:
        """(y', x): real label sets put to other images."""
        (others,) = batch.draws
        return Pairs(known(batch.y) * present(self.inputs.device_labels[others].to(batch.y)), self._features(batch))

    def _update_generator(self, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        z = self._features(batch)  # [B, F]
        (noise,) = batch.draws  # [B, L]
        of_logits = losses.loss_of_logits(config.loss, config.label_reduction)

        def parts() -> Iterator[Part]:
            for rows, share in parts_of(batch, config.accumulate):
                y = batch.y[rows]
                with mixed_precision(self.inputs.device):
                    logits = self.generator(batch.x[rows])  # [B / K, L]
                leaf = logits.detach().requires_grad_()  # Eq. 2's two terms pull at the logits: each is measured
                fake_set = known(y) * losses.sample(leaf, noise[rows], config.inverse_temperature, config.sampling)
                fooling = share * losses.generator_loss(self.critic(fake_set, z[rows]))  # Eq. 3
                logistic = share * of_logits(leaf, y)
                (by_critic,) = torch.autograd.grad(fooling, leaf)  # [B / K, L]
                (by_labels,) = torch.autograd.grad(config.alpha * logistic, leaf)
                squares = (by_critic.square().sum(), by_labels.square().sum())
                yield Part(logits, (fooling.detach(), logistic.detach(), *squares), by_critic + by_labels)

        names = ("generator", config.loss, "by critic", "by labels")
        told = update_in_parts(self.optimizer_g, names, parts(), self.world, config.max_gradient_norm)
        return told | {"critic_share": critic_share(told.pop("by critic"), told.pop("by labels"))}

    @torch.no_grad()
    def _sample(self, batch: Batch, noise: Tensor) -> Tensor:
        """y_hat: label sets [B, L] drawn from G(x)."""
        logits = self._in_parts(self.generator, batch, batch.y.shape[1])
        return known(batch.y) * losses.sample(logits, noise, self.config.inverse_temperature, self.config.sampling)

    @torch.no_grad()
    def _hard_samples(self, batch: Batch) -> Tensor:
        """Label sets of zeros and ones [B, K, L], as its noise has them, each label there with G's probability."""
        (noise,) = batch.draws
        logits = self._in_parts(self.generator, batch, batch.y.shape[1])
        return known(batch.y)[:, None, :] * losses.hard_samples(logits, noise)

    @torch.no_grad()
    def _features(self, batch: Batch) -> Tensor:
        """Z = f_ext(x), [B, F], unless the batch brings it; D sees full precision under mixed precision too."""
        if batch.z is not None:
            return batch.z
        return pooled(self._in_parts(self.inputs.encoder, batch, self.inputs.feature_dim))

    def _in_parts(self, network: nn.Module, batch: Batch, width: int) -> Tensor:
        """What a network makes of x, in as many passes as G's update takes, so that none needs more memory."""
        if len(batch.rows) == 0:  # of a batch of fewer rows than processes; not every network takes none
            return batch.y.new_zeros(0, width)
        with mixed_precision(self.inputs.device):
            made = [network(part).to(batch.y.dtype) for part in batch.x.chunk(self.config.accumulate)]
        return torch.cat(made) if len(made) > 1 else made[0]

    def _critic_keys(self, step: int) -> Iterator[int]:
        """The numbers of the critic's updates at a step of G; those of the warm-up are negative."""
        if step == 0:
            yield from range(-self.config.critic_warmup, 0)
        yield from range(step * self.config.critic_steps, (step + 1) * self.config.critic_steps)

    def _critic_request(self, kind: str, key: int) -> Request:
        """One of the batches of D's update `key`, over all processes."""
        step = max(key, 0) // self.config.critic_steps  # the warm-up's keys are negative: it belongs to step 0
        rows = self.order.critic_rows(step, f"critic {kind}", key)
        views = random_views(len(rows), self.inputs.n_views, self.config.seed, f"critic {kind} views", key)
        return Request(rows, views, len(rows), kind == self._sampled, self._critic_draws(kind, key, rows))

    def _critic_draws(self, kind: str, key: int, rows: Tensor) -> tuple[Tensor, ...]:
        """What an update of D needs for one of its batches: rows of y'; noise, and the weight of Eq. 5's y*."""
        if kind == "mismatched":
            return (mismatched_rows(self.inputs.labels, rows, self.config.seed, "mismatched labels", key),)
        if kind != self._sampled:
            return ()
        labels = self.inputs.labels.shape[1]
        if self.config.critic == "nce":
            return (self._noise("critic noise", key, len(rows), self.config.samples_per_image, labels),)
        return self._noise("critic noise", key, len(rows), labels), self._noise("interpolation", key, len(rows), 1)

    def _generator_request(self, step: int) -> Request:
        """G's batch at a step, with the noise of its samples, over all processes."""
        request = generator_request(self.inputs, self.order, step)
        noise = self._noise("generator noise", step, request.whole, self.inputs.labels.shape[1])
        return request._replace(draws=(noise,))

    def _val_requests(self, val: Inputs) -> Iterator[Sequence[Request]]:
        """All validation rows in order, with the noise of hard samples."""
        for number, request in enumerate(requests_in_order(val)):
            noise = self._noise("val noise", number, request.whole, _QUALITY_DRAWS, val.labels.shape[1])
            yield [request._replace(draws=(noise,))]

    def _noise(self, purpose: str, key: int, *shape: int) -> Tensor:
        """Uniform noise of a shape, on the CPU."""
        return uniform(shape, self.config.seed, purpose, key).to(torch.get_default_dtype())


def generator_request(inputs: Inputs, order: Order, step: int) -> Request:
    """G's batch at a step, over all processes."""
    rows = order.generator_rows(step)
    return Request(rows, random_views(len(rows), inputs.n_views, order.seed, "views", step), len(rows))


def share_of(request: Request, world: World) -> Request:
    """This process's rows of a batch, and what was drawn for them."""
    rows, views, whole, needs_x, draws = request
    part = world.share(whole)
    return Request(rows[part], views[part], whole, needs_x, tuple(drawn[part] for drawn in draws))


def critic_share(by_critic: Tensor, by_labels: Tensor) -> Tensor:
    """The critic's part of the gradient at G's logits: its norm over the sum of both norms.

    Args:
        by_critic: squared norm of the gradient of L_G (Eq. 3) with respect to the logits of a batch, scalar.
        by_labels: that of alpha times the logistic loss.

    Returns:
        Scalar in [0, 1]; near 0 for a critic that is mute beside the labels.
    """
    critic, labels = by_critic.sqrt(), by_labels.sqrt()
    return critic / (critic + labels).clamp(min=torch.finfo(critic.dtype).tiny)


def present(y: Tensor) -> Tensor:
    """Labels [B, L] as the critic sees them: an unknown one (-1) is left out of every set."""
    return y.clamp(min=0)


def known(y: Tensor) -> Tensor:
    """1 where a label is known, 0 where not [B, L]: generated sets leave out the same labels as the real ones."""
    return (y >= 0).to(y.dtype)
