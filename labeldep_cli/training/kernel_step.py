"""One update of a kernel critic: maximum likelihood of each image's label set among the known ones (not in the paper).

B batch, N images, L labels, F feature width, M landmarks, R width of the similarities, S known sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import count

import torch
from torch import Tensor, nn

from labeldep_cli.compute.distributed import World
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.evaluation.decisions import Outputs
from labeldep_cli.evaluation.known_sets import pool_weights
from labeldep_cli.inputs.batches import Batch, Inputs, Request, in_order
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.moments import RunningMoments
from labeldep_cli.models.encoder import pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.kernel_critic import KernelCritic
from labeldep_cli.models.known_sets import agreeing
from labeldep_cli.training.draws import Order, keyed
from labeldep_cli.training.steps import generator_request, share_of
from labeldep_cli.training.updates import Part, update_in_parts

_KEPT = 2**28
"""Similarities of the training rows that are kept, 4 bytes each: more rows get fewer landmarks."""

_BETA2 = 0.99  # Adam's memory of squared gradients is 100 updates, a quarter of the shortest training
_WARM_UP = 0.1  # of the updates; then the learning rate falls to 0 by half a cosine


class KernelStep:
    """Updates of D alone. Its inputs are the similarities of the training images, each computed once.

    Args:
        generator: G, which is not changed.
        critic: D.
        inputs: similarities of the training rows as features [N, 1, R].
        config: the learning rate, the precision of the weights, the batch size.
        steps: the total number of updates.
        world: the processes that train together.
    """

    def __init__(
        self,
        generator: Generator,
        critic: KernelCritic,
        inputs: FeatureInputs,
        config: AdversarialConfig,
        steps: int,
        world: World,
    ) -> None:
        self.generator = generator.eval()
        self.critic = critic
        self.inputs = inputs
        self.config = config
        self.steps = steps
        self.world = world
        self.order = Order.of(inputs, config)
        betas = (config.beta1, _BETA2)
        self.optimizer = torch.optim.Adam(critic.parameters(), lr=config.critic_learning_rate, betas=betas, fused=True)

    @staticmethod
    def of(generator: Generator, train: Inputs, config: AdversarialConfig, steps: int, world: World) -> KernelStep:
        """Fit D's statistics to the training rows, and compute their similarities; two passes over the rows."""
        critic = _fitted(train, config)
        similarities = torch.zeros(len(train.labels), len(critic.label_weights), device=train.device)
        with torch.inference_mode():
            for batch in in_order(train, world):
                similarities[batch.rows] = critic.similarities(_features(train, batch))
        world.add([similarities])  # the other processes' rows are zeros here
        rows = similarities.cpu()[:, None].numpy()
        inputs = FeatureInputs(rows, train.labels.numpy(), train.paths, train.space, (), train.device)
        return KernelStep(generator, critic, inputs, config, steps, world)

    def requests(self, first: int) -> Iterator[Sequence[Request]]:
        """One batch per step, in epochs of permuted rows."""
        for step in count(first):
            yield [share_of(generator_request(self.inputs, self.order, step), self.world)]

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        """Update D once."""
        (batch,) = next(batches)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.critic_learning_rate * rate(step, self.steps)
        parts: list[Part] = []
        if len(batch.rows):  # a batch may have fewer rows than there are processes
            share = len(batch.rows) / batch.global_batch_size
            with torch.enable_grad():
                likelihood = share * log_likelihood(self.critic, batch.y, batch.x).mean()
                penalty = share * self.config.critic_decay / 2 / len(self.inputs.labels) * self._squares()
                parts.append(Part(penalty - likelihood, (-likelihood, penalty)))
        names = ("critic", "weight_penalty")
        return update_in_parts(self.optimizer, names, parts, self.world, self.config.max_gradient_norm)

    def quality(self, val: Inputs) -> float | None:
        """None: the last evaluation is kept. The likelihood on val is best long before the choice among sets is."""
        return None

    @torch.no_grad()
    def test_weights(self, outputs: Outputs, labels: Tensor) -> Mapping[str, float]:
        """The weights of D and of G, chosen on validation rows."""
        z = outputs.features()
        logits = torch.from_numpy(outputs.logits).to(z.device)
        return pool_weights(self.critic, logits, self.critic.similarities(z), labels)._asdict()

    def networks(self) -> Mapping[str, nn.Module]:
        """G and D."""
        return {"generator": self.generator, "critic": self.critic}

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimizer of D."""
        return {"optimizer_d": self.optimizer}

    def _squares(self) -> Tensor:
        return torch.stack([weights.square().sum() for weights in self.critic.parameters()]).sum()


def rate(step: int, steps: int) -> float:
    """The learning rate of an update relative to its largest: it rises linearly, then falls by half a cosine."""
    warm = max(1, round(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def log_likelihood(critic: KernelCritic, y: Tensor, similarities: Tensor) -> Tensor:
    """Log p(y|x) of each image among the known sets, and its own set if that is not known.

    An unknown label is summed over: all known sets that agree with the known labels count. An image with unknown labels
    that no known set agrees with counts with unknown labels absent.

    Args:
        critic: D.
        y: labels [B, L]; -1 where unknown.
        similarities: of the images, [B, R].

    Returns:
        [B], in nats.
    """
    scores = critic.score_known(similarities)  # [B, S]
    present = y.clamp(min=0)
    own = critic.score(present, similarities)
    unknown_set = critic.lookup(present) == len(critic.sets)
    if bool((y < 0).any()):
        agrees = agreeing(critic.sets, y)
        summed = (y < 0).any(dim=1) & agrees.any(dim=1)
        own = torch.where(summed, scores.masked_fill(~agrees, -torch.inf).logsumexp(dim=1), own)
        unknown_set = unknown_set & ~summed
    competing = torch.where(unknown_set, own, -torch.inf)
    return own - torch.logsumexp(torch.cat([scores, competing[:, None]], dim=1), dim=1)


def _fitted(train: Inputs, config: AdversarialConfig) -> KernelCritic:
    """D with the moments of the features, and landmarks drawn from the training rows."""
    n = len(train.labels)
    most = max(min(config.landmarks, _KEPT // n, n), 1)
    chosen = torch.randperm(n, generator=keyed(config.seed, "landmarks", 0))[:most].sort().values.to(train.device)
    moments = RunningMoments()
    landmarks = torch.zeros(most, train.feature_dim, device=train.device)
    with torch.inference_mode():
        for batch in in_order(train):
            z = _features(train, batch)
            moments.add(z)
            place = torch.searchsorted(chosen, batch.rows).clamp(max=most - 1)
            here = chosen[place] == batch.rows
            landmarks[place[here]] = z[here]
    return KernelCritic.fitted(train.device_labels, moments.result(), landmarks)


def _features(inputs: Inputs, batch: Batch) -> Tensor:
    """Z of a batch, [B, F], in full precision."""
    return (pooled(inputs.encoder(batch.x)) if batch.z is None else batch.z).float()
