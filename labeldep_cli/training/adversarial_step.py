"""The adversarial step (Sect. 3.3): updates of D and G. `training.steps` explains the interface of steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import count, product

import torch
from torch import Tensor, nn

from labeldep_cli.compute.devices import mixed_precision
from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.evaluation.decisions import Outputs
from labeldep_cli.evaluation.rerank import candidate_count, tune_beta
from labeldep_cli.inputs.batches import Batch, Inputs, Request, requests_in_order
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.members import AdversarialCritic, members_of
from labeldep_cli.training import losses
from labeldep_cli.training.critics.base import BatchName, Examples, UpdateInputs
from labeldep_cli.training.critics.label_sets import real_and_sampled, sampled
from labeldep_cli.training.critics.registry import CRITICS
from labeldep_cli.training.draws import Order, mismatched_rows, random_views, uniform
from labeldep_cli.training.steps import generator_request, share_of
from labeldep_cli.training.updates import Part, Update, adam, parts_of, update_in_parts

_QUALITY_DRAWS = 16
"""Samples of G per validation image. More samples make the estimate less noisy if val is small."""


class AdversarialStep:
    """`critic_steps` updates of D, then one of G (Eq. 2), unless G is frozen.

    Args:
        generator: G.
        critic: D. Several members are trained each for itself, with rows and noise of its own; G must be frozen then.
        inputs: the training rows; their encoder is D's frozen f_ext.
        config: the paper's settings.
        world: the processes that train together.
    """

    def __init__(
        self,
        generator: Generator,
        critic: AdversarialCritic,
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
        betas = (config.critic_beta1, config.critic_beta2)
        self.optimizer_g = adam(generator, config.learning_rate, (config.beta1, config.beta2), config.weight_decay)
        self.members = [
            (member, adam(member, config.critic_learning_rate, betas, config.critic_decay))
            for member in members_of(critic)
        ]
        self.optimizer_d = self.members[0][1]
        self.objective = CRITICS[config.critic](config)

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """The batches of the objective for each update of D, then one for G."""
        for step in count(first):
            for key, member in product(self._critic_keys(step), self._suffixes):
                names = self.objective.batches
                yield [share_of(self._critic_request(name, key, member), self.world) for name in names]
            if not self.config.freeze_generator:
                yield [share_of(self._generator_request(step), self.world)]

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """Update D `critic_steps` times and G once."""
        record: dict[str, Tensor] = {}
        for update in self.updates(step):
            record |= update.make(next(batches))
        return record

    def updates(self, step: int) -> Iterator[Update]:
        """The updates of a step, in the order of `requests`; G is in the mode in which it trains."""
        self.generator.train(not self.config.freeze_generator)
        for _, (member, optimizer) in product(self._critic_keys(step), self.members):
            yield Update(optimizer, partial(self._update_critic, member, optimizer))
        if not self.config.freeze_generator:
            yield Update(self.optimizer_g, self._update_generator)

    def networks(self) -> Mapping[str, nn.Module]:
        """G and D."""
        return {"generator": self.generator, "critic": self.critic}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizers of G and D."""
        of_members = zip(self._suffixes, self.members, strict=True)
        return {"optimizer_g": self.optimizer_g} | {f"optimizer_d{name}": own for name, (_, own) in of_members}

    @torch.no_grad()
    def quality(self, val: Inputs) -> float | None:
        """How well D separates real sets from hard samples of G on validation rows, higher is better.

        Returns:
            The quality as D's objective defines it; None if G is trained too, since then G's score selects the best
            evaluation.
        """
        if not self.config.freeze_generator:
            return None
        self.generator.eval()
        real, fake = [], []
        for (batch,) in val.stream(self._val_requests(val)):
            (noise,) = batch.draws
            logits, drawn = self._logits(batch), self._drawn(batch, noise)
            sets = real_and_sampled(logits, batch.y, noise, drawn)  # [B, 1 + K, L]
            scores = self.critic(sets, self._features(batch))  # [B, 1 + K]
            real.append(scores[:, 0])
            fake.append(scores[:, 1:])
        return self.objective.quality(torch.cat(real), torch.cat(fake))

    @torch.no_grad()
    def test_weights(self, outputs: Outputs, labels: Tensor) -> Mapping[str, float]:
        """The weight of D at test time (`--decision rerank`), chosen on validation rows."""
        z = outputs.features()
        logits = torch.from_numpy(outputs.logits).to(z.device)
        own = outputs.own(candidate_count(logits.shape[1])) if outputs.own else None
        return {"beta": tune_beta(self.critic, logits, z, labels, self.objective.expected_beta, own)}

    @property
    def _suffixes(self) -> list[str]:
        """What tells the members apart in the names of draws and optimizers; the first has the names of a lone D."""
        return [f" of member {number}" if number else "" for number in range(len(self.members))]

    def _update_critic(
        self, network: Discriminator, optimizer: torch.optim.Optimizer, batches: Sequence[Batch]
    ) -> dict[str, Tensor]:
        """One update of D, or of one of its members.

        Args:
            network, optimizer: those of D or of the member.
            batches: one for each batch name of the objective.

        Returns:
            Its losses, detached.
        """
        named = dict(zip(self.objective.batches, batches, strict=True))
        generated = named[self.objective.sampled_batch]
        examples: dict[BatchName, Examples] = {
            name: Examples(batch.y, self._features(batch)) for name, batch in named.items()
        }
        inputs = UpdateInputs(
            examples,
            self._logits(generated),
            generated.draws,
            self._other_labels(named["mismatched"]) if "mismatched" in named else None,
            generated.global_batch_size,
            self._drawn(generated, generated.draws[0]) if self.generator.head.joint else None,
        )
        return self.objective.update(network, optimizer, inputs, self.world)

    def _other_labels(self, batch: Batch) -> Tensor:
        """The labels [B, L] of the other rows that were drawn for a batch of mismatched pairs."""
        (others,) = batch.draws
        return self.inputs.device_labels[others].to(batch.y)

    def _update_generator(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        config = self.config
        (batch,) = batches
        z = self._features(batch)  # [B, F]
        (noise,) = batch.draws  # [B, L]
        of_logits = losses.loss_of_logits(config.loss, config.label_reduction)

        def parts() -> Iterator[Part]:
            for rows, share in parts_of(batch, config.accumulate):
                y = batch.y[rows]
                with mixed_precision(self.inputs.device):
                    logits = self.generator(batch.x[rows])  # [B / K, L]
                leaf = logits.detach().requires_grad_()  # the gradients of Eq. 2's two terms are measured separately
                fake_set = sampled(leaf, y, noise[rows], config.inverse_temperature, config.sampling)
                fooling = share * losses.generator_loss(self.critic(fake_set, z[rows]))  # Eq. 3
                logistic = share * of_logits(leaf, y)
                (by_critic,) = torch.autograd.grad(fooling, leaf)  # [B / K, L]
                (by_labels,) = torch.autograd.grad(config.alpha * logistic, leaf)
                squares = (by_critic.square().sum(), by_labels.square().sum())
                yield Part(logits, (fooling.detach(), logistic.detach(), *squares), by_critic + by_labels)

        names = ("generator", config.loss, "by critic", "by labels")
        record = update_in_parts(self.optimizer_g, names, parts(), self.world, config.max_gradient_norm)
        return record | {"critic_share": critic_share(record.pop("by critic"), record.pop("by labels"))}

    @torch.no_grad()
    def _logits(self, batch: Batch) -> Tensor:
        """G(x), [B, L], without a gradient."""
        return self._in_parts(self.generator, batch, batch.y.shape[1])

    @torch.no_grad()
    def _drawn(self, batch: Batch, noise: Tensor) -> Tensor | None:
        """Label sets [B, K, L] that a joint head draws for x; None for other heads, and for a batch without rows."""
        if not self.generator.head.joint or len(batch.rows) == 0:
            return None
        with mixed_precision(self.inputs.device):
            features = self.generator.features(batch.x)
        return self.generator.sample(features, noise)

    @torch.no_grad()
    def _features(self, batch: Batch) -> Tensor:
        """Z = f_ext(x), [B, F], or the batch's own z; in full precision for D, even under mixed precision."""
        if batch.z is not None:
            return batch.z
        return pooled(self._in_parts(self.inputs.encoder, batch, self.inputs.feature_dim))

    def _in_parts(self, network: nn.Module, batch: Batch, width: int) -> Tensor:
        """The outputs of a network for x, in as many parts as G's update has, so that they need no more memory."""
        if len(batch.rows) == 0:  # the batch has fewer rows than there are processes; not every network accepts 0 rows
            return batch.y.new_zeros(0, width)
        with mixed_precision(self.inputs.device):
            outputs = [network(part).to(batch.y.dtype) for part in batch.x.chunk(self.config.accumulate)]
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    def _critic_keys(self, step: int) -> Iterator[int]:
        """The numbers of the critic's updates at a step of G; those of the warm-up are negative."""
        if step == 0:
            yield from range(-self.config.critic_warmup, 0)
        yield from range(step * self.config.critic_steps, (step + 1) * self.config.critic_steps)

    def _critic_request(self, name: BatchName, key: int, member: str) -> Request:
        """One of the global batches of update `key` of D or of a member."""
        step = max(key, 0) // self.config.critic_steps  # the keys of the warm-up are negative; it belongs to step 0
        rows = self.order.critic_rows(step, f"critic {name}{member}", key)
        views = random_views(len(rows), self.inputs.n_views, self.config.seed, f"critic {name} views{member}", key)
        needs_x = name == self.objective.sampled_batch
        return Request(rows, views, len(rows), needs_x, self._critic_draws(name, key, member, rows))

    def _critic_draws(self, name: BatchName, key: int, member: str, rows: Tensor) -> tuple[Tensor, ...]:
        """The random numbers of an update of D for one of its batches: the rows of y', or the objective's noise."""
        if name == "mismatched":
            return (mismatched_rows(self.inputs.labels, rows, self.config.seed, f"mismatched labels{member}", key),)
        if name != self.objective.sampled_batch:
            return ()
        shapes = self.objective.noise_shapes(len(rows), self.inputs.labels.shape[1])
        return tuple(self._noise(purpose + member, key, *shape) for purpose, shape in shapes.items())

    def _generator_request(self, step: int) -> Request:
        """G's global batch at a step, with the noise for its samples."""
        request = generator_request(self.inputs, self.order, step)
        noise = self._noise("generator noise", step, request.global_batch_size, self.inputs.labels.shape[1])
        return request._replace(draws=(noise,))

    def _val_requests(self, val: Inputs) -> Iterator[Sequence[Request]]:
        """All validation rows in order, with the noise for hard samples."""
        for number, request in enumerate(requests_in_order(val)):
            noise = self._noise("val noise", number, request.global_batch_size, _QUALITY_DRAWS, val.labels.shape[1])
            yield [request._replace(draws=(noise,))]

    def _noise(self, purpose: str, key: int, *shape: int) -> Tensor:
        """Uniform noise of a shape, on the CPU."""
        return uniform(shape, self.config.seed, purpose, key).to(torch.get_default_dtype())


def critic_share(by_critic: Tensor, by_labels: Tensor) -> Tensor:
    """The critic's share of the gradient at G's logits: its norm divided by the sum of both norms.

    Args:
        by_critic: squared norm of the gradient of L_G (Eq. 3) with respect to the logits of a batch, scalar.
        by_labels: squared norm of the gradient of alpha times the logistic loss, scalar.

    Returns:
        Scalar in [0, 1]; near 0 if the critic has almost no influence compared with the labels.
    """
    critic, labels = by_critic.sqrt(), by_labels.sqrt()
    return critic / (critic + labels).clamp(min=torch.finfo(critic.dtype).tiny)
