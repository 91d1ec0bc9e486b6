"""A critic is one class and one row of CRITICS: a third kind trains through both doors without another edit."""

from __future__ import annotations

from typing import ClassVar, get_args

import pytest
import torch
from test_training import L, make_inputs, make_step

from labeldep_cli import LabelDependencyLoss
from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import AdversarialConfig, CriticKind, CriticName
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.training.critics.base import CriticObjective, Examples, UpdateInputs
from labeldep_cli.training.critics.label_sets import known, present, real_and_sampled, sampled
from labeldep_cli.training.critics.registry import CRITICS
from labeldep_cli.training.updates import Part, adam, update_in_parts


class HingeCritic(CriticObjective):
    """mean max(0, 1 - D(y, x)) + mean max(0, 1 + D(y_hat, x)), on the same images."""

    loss_names: ClassVar = ("critic",)
    sampled_batch: ClassVar = "matched"

    @property
    def batches(self):
        return ("matched",)

    def noise_shapes(self, batch_size, n_labels):
        return {"hinge noise": (batch_size, n_labels)}

    def update(self, network, optimizer, inputs, world):
        y, z = inputs.batches["matched"]
        (noise,) = inputs.noise
        fake = sampled(inputs.logits, y, noise, self.config.inverse_temperature, self.config.sampling)
        real_scores, fake_scores = network(present(y), z), network(fake, z)
        loss = (1 - real_scores).clamp(min=0).mean() + (1 + fake_scores).clamp(min=0).mean()
        share = len(y) / inputs.global_batch_size
        return update_in_parts(optimizer, ("critic",), [Part(share * loss, (share * loss,))], world, 0.0)

    @staticmethod
    def quality(real_scores, fake_scores):
        return float((real_scores[:, None] > fake_scores).float().mean())


@pytest.fixture
def hinge(monkeypatch):
    monkeypatch.setitem(CRITICS, "hinge", HingeCritic)


def test_each_name_of_the_command_line_has_a_row_or_a_step_of_its_own():
    assert tuple(CRITICS) == get_args(CriticName)
    assert set(get_args(CriticKind)) - set(CRITICS) == {"kernel", "none"}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_third_critic_trains_beside_g(hinge, frozen):
    inputs = make_inputs(30)
    step = make_step(inputs, critic="hinge", freeze_generator=frozen)
    before = step.critic.project_labels.weight.clone()
    batches = inputs.stream(step.requests(0))
    record = [step(number, batches) for number in range(30)]
    assert record[-1]["critic"] < record[0]["critic"]
    assert not torch.equal(step.critic.project_labels.weight, before)
    quality = step.quality(make_inputs(10))
    assert quality is None if not frozen else 0 <= quality <= 1


def test_a_third_critic_trains_in_one_s_own_loop(hinge):
    critic = LabelDependencyLoss(2, 3, critic="hinge", critic_lr=3e-3, critic_layers=1)
    logits, z, y = torch.zeros(64, 2), torch.zeros(64, 3), torch.ones(64, 2)
    first = critic.step(logits, z, y)
    for _ in range(50):
        last = critic.step(logits, z, y)
    assert first.keys() == {"critic"} and last["critic"] < first["critic"]
    assert critic.generator_loss(logits.requires_grad_(), z).isfinite()


class Silenced(World):
    """A process whose sums stay its own."""

    def add(self, parts):
        pass


def update_inputs(objective, rows, n=6):
    """Some rows of a batch of `n`, the last label of every second row unknown."""
    draws = torch.Generator().manual_seed(0)

    def uniform(*shape):
        return torch.rand(shape, generator=draws, dtype=torch.float64)

    y = (uniform(n, L) < 0.5).double()
    y[::2, -1] = -1
    batches = {name: Examples(y[rows], uniform(n, 3)[rows]) for name in objective.batches}
    noise = [uniform(*shape)[rows] for shape in objective.noise_shapes(n, L).values()]
    others = y.flip(0)[rows] if "mismatched" in objective.batches else None
    return UpdateInputs(batches, uniform(n, L)[rows], noise, others, n)


@pytest.mark.parametrize("kind", CRITICS)
def test_the_losses_of_several_processes_add_up(kind):
    """Six rows, shared as 4, 2 and none."""
    config = AdversarialConfig(critic=kind, critic_layers=1, critic_width=8, critic_projection=4).resolved()
    objective = CRITICS[kind](config)

    def record(rows, world):
        network = seeded_critic(L, 3, config.critic_shape, 0).double()
        optimizer = adam(network, config.critic_learning_rate, (0.5, 0.9))
        return objective.update(network, optimizer, update_inputs(objective, rows), world)

    expected = record(slice(0, 6), ALONE)
    parts = [record(rows, Silenced(rank, 3)) for rank, rows in enumerate((slice(0, 4), slice(4, 6), slice(6, 6)))]
    assert set(objective.loss_names) <= expected.keys()
    for name, value in expected.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-9)


def test_sets_leave_out_what_is_unknown():
    y = torch.tensor([[1.0, 0.0, -1.0]])
    assert present(y).tolist() == [[1, 0, 0]] and known(y).tolist() == [[1, 1, 0]]
    logits, noise = torch.full((1, 3), 9.0), torch.full((1, 3), 0.5)
    assert sampled(logits, y, noise, 1.0, "straight-through").tolist() == [[1, 1, 0]]
    assert real_and_sampled(logits, y, noise[:, None]).tolist() == [[[1, 0, 0], [1, 1, 0]]]
