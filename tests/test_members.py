"""Several critics as one: their scores, and that each is trained as if it were alone."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from test_training import F, L, make_config, make_inputs
from torch import nn
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.members import MembersCritic, build_critic, members_of
from labeldep_cli.training.adversarial_step import AdversarialStep

SHAPE = {"layers": 1, "width": 8, "projection": 4, "slope": 0.2, "conditional": True}


def trained(count: int, critic: str, steps: int = 3) -> AdversarialStep:
    config = make_config(freeze_generator=True, critic=critic)
    shape = config.critic_shape | ({"members": count} if count > 1 else {})
    generator = Generator(nn.Identity(), seeded_head("linear", F, L, 0, seed=3))
    inputs = make_inputs(16, seed=0)
    step = AdversarialStep(generator, build_critic(L, F, shape, seed=0), inputs, config)
    batches = inputs.stream(islice(step.requests(0), steps * config.critic_steps * count))
    for number in range(steps):
        step(number, batches)
    return step


def weights(network: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def test_the_score_is_the_mean() -> None:
    """Members that give 1 and 4 to every set: 2.5, for one set of an image and for several."""
    critic = build_critic(3, 2, SHAPE | {"members": 2}, seed=0)
    for member, score in zip(members_of(critic), (1.0, 4.0), strict=True):
        nn.init.zeros_(member.linears[-1].weight)
        nn.init.constant_(member.linears[-1].bias, score)
    z = torch.ones(5, 2)
    assert critic(torch.ones(5, 3), z).tolist() == [2.5] * 5
    assert critic(torch.ones(5, 7, 3), z).tolist() == [[2.5] * 7] * 5


def test_one_member_is_a_critic_alone() -> None:
    alone = build_critic(3, 2, SHAPE, seed=0)
    assert torch.equal(weights(alone), weights(seeded_critic(3, 2, SHAPE, seed=0)))
    first, *others = members_of(build_critic(3, 2, SHAPE | {"members": 3}, seed=0))
    assert torch.equal(weights(first), weights(alone))
    neighbours = members_of(build_critic(3, 2, SHAPE | {"members": 3}, seed=1))
    assert len({tuple(weights(member).tolist()) for member in (first, *others, *neighbours)}) == 6


@pytest.mark.parametrize("critic", ["nce", "wgan-gp"])
def test_each_member_is_trained_for_itself(critic: str) -> None:
    """The first of three has the bits of a critic that is trained alone; the second has those of the second of two."""
    alone, two, three = (trained(count, critic) for count in (1, 2, 3))
    assert isinstance(three.critic, MembersCritic)
    start = weights(build_critic(L, F, alone.config.critic_shape, seed=0))
    assert not torch.equal(weights(alone.critic), start)
    members = [members_of(step.critic) for step in (two, three)]
    for own in members:
        assert torch.equal(weights(own[0]), weights(alone.critic))
    assert torch.equal(weights(members[0][1]), weights(members[1][1]))
    assert list(three.optimizers()) == [
        "optimizer_g",
        "optimizer_d",
        "optimizer_d of member 1",
        "optimizer_d of member 2",
    ]


def test_members_draw_their_own_noise() -> None:
    step = trained(2, "nce", steps=1)
    per_update = [requests[0] for requests in islice(step.requests(0), 4)]
    assert not torch.equal(per_update[0].draws[0], per_update[1].draws[0])
    assert torch.equal(per_update[0].draws[0], next(trained(1, "nce", steps=1).requests(0))[0].draws[0])


def test_members_beside_a_generator_that_learns_are_refused() -> None:
    result = CliRunner().invoke(app, ["adversarial", "--dataset", "scenes", "--members", "2"])
    assert result.exit_code == 2 and "--freeze-generator" in result.stderr
