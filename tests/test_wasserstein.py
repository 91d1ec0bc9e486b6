"""The critic's update by hand, against autograd through the equations."""

from __future__ import annotations

import pytest
import torch

from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.critics.wasserstein_gradient import Pairs, critic_update
from labeldep_cli.training.losses import critic_loss, gradient_penalty

B, L, F = 7, 6, 10


def draw(seed, dtype=torch.float64, b=B):
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape):
        return torch.rand(shape, generator=generator, dtype=dtype)

    sets = [(uniform(b, L) < 0.4).to(dtype) for _ in range(3)]
    images = [uniform(b, F) - 0.3 for _ in range(3)]
    return sets, images, uniform(b, L), uniform(b, 1)


def make_critic(layers=8, conditional=True, slope=0.2, dtype=torch.float64):
    torch.manual_seed(5)
    critic = Discriminator(L, F, layers, 32, 16, slope, conditional).to(dtype)
    for parameter in critic.parameters():  # the initial critic is nearly flat: steepen it, so that norms differ
        parameter.data *= 2.0
    return critic


def both(critic, with_negatives=True, lambda_gp=10.0, dtype=torch.float64):
    """(loss, penalty, gradients) by hand and by autograd."""
    (real, true, other), (z_real, z_fake, z_other), fake, weight = draw(1, dtype)
    found = critic_update(
        critic,
        Pairs(real, z_real),
        Pairs(fake, z_fake),
        Pairs(other, z_other) if with_negatives else None,
        weight * true + (1 - weight) * fake,
        lambda_gp,
        B,
    )
    mismatched = critic(other, z_other) if with_negatives else None
    penalty = gradient_penalty(critic, true, fake, z_fake, weight)
    loss = critic_loss(critic(real, z_real), critic(fake, z_fake), mismatched) + lambda_gp * penalty
    gradients = torch.autograd.grad(loss, list(critic.parameters()), materialize_grads=True)
    return (found.loss, found.penalty, found.gradients), (loss.detach(), penalty.detach(), gradients)


@pytest.mark.parametrize("with_negatives", [True, False])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("layers", [0, 1, 2, 8])
@pytest.mark.parametrize("slope", [0.2, 0.0, 1.5])
def test_equals_autograd(layers, conditional, with_negatives, slope):
    critic = make_critic(layers, conditional, slope)
    mine, theirs = both(critic, with_negatives and conditional)
    torch.testing.assert_close(mine[:2], theirs[:2], rtol=1e-12, atol=1e-12)
    assert len(mine[2]) == len(list(critic.parameters()))
    for got, expected in zip(mine[2], theirs[2], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)


def test_a_penalty_by_hand():
    # D(y) = y @ [3, 4] for every image: the gradient's norm is 5, the penalty (5 - 1)^2 = 16; the score's weights are
    # pulled back along d(lambda P)/dw = lambda 2 (5 - 1) w / 5, and the three batches are of one set, so that L_D is 0.
    critic = Discriminator(2, 3, 0, 1, 2, 0.2, conditional=False).double()
    with torch.no_grad():
        critic.project_labels.weight.copy_(torch.eye(2))
        critic.project_labels.bias.zero_()
        critic.score[0].weight.copy_(torch.tensor([[3.0, 4.0]]))
    y, z = torch.ones(4, 2).double(), torch.zeros(4, 3).double()
    found = critic_update(critic, Pairs(y, z), Pairs(y, z), None, y, 10.0, 4)
    assert found.penalty.item() == pytest.approx(16) and found.loss.item() == pytest.approx(160)
    assert found.slope.item() == pytest.approx(5)
    assert found.wasserstein.item() == 0
    torch.testing.assert_close(found.gradients[2], 10 * 2 * 4 / 5 * torch.tensor([[3.0, 4.0]]).double())


def test_parts_of_a_batch_add_up_to_it():
    critic = make_critic()
    (real, true, other), (z_real, z_fake, z_other), fake, weight = draw(2)
    between = weight * true + (1 - weight) * fake

    def part(rows):
        pairs = (Pairs(y[rows], z[rows]) for y, z in ((real, z_real), (fake, z_fake), (other, z_other)))
        return critic_update(critic, *pairs, between[rows], 10.0, B)

    whole, *parts = (part(rows) for rows in (slice(0, B), slice(0, 3), slice(3, B), slice(B, B)))
    torch.testing.assert_close(sum(p.loss for p in parts), whole.loss)
    torch.testing.assert_close(sum(p.wasserstein for p in parts), whole.wasserstein)
    for k, expected in enumerate(whole.gradients):
        torch.testing.assert_close(sum(p.gradients[k] for p in parts), expected, rtol=1e-10, atol=1e-12)


def test_float32_and_a_flat_critic():
    mine, theirs = both(make_critic(dtype=torch.float32), dtype=torch.float32)
    for got, expected in zip(mine[2], theirs[2], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    flat = make_critic()
    for parameter in flat.parameters():
        parameter.data.zero_()
    (found, penalty, taken), _ = both(flat)
    assert penalty.item() == pytest.approx(1, abs=1e-5) and found.isfinite()
    assert all(gradient.isfinite().all() for gradient in taken)


def test_training_s_step_is_the_one_written_plainly(monkeypatch):
    from benchmarks import step

    monkeypatch.setattr(step, "ROWS", 300)
    plain, labeldep = step.Plain(torch.device("cpu")), step.Labeldep(torch.device("cpu"))
    for _ in range(2):
        expected, told = plain(), labeldep()
        names = {"critic", "penalty", "wasserstein", "critic_gradient", "generator", "logistic"}
        assert told.keys() - {"critic_share"} == expected.keys() == names
        for name, value in expected.items():
            assert told[name] == pytest.approx(value, rel=1e-3, abs=1e-3), name
    for mine, theirs in zip(labeldep._step.critic.parameters(), plain.critic.parameters(), strict=True):
        if len(mine) > 1:  # a constant added to all scores changes nothing: Adam makes much of its gradient's rounding
            # After 6 updates of 1e-4 each; Adam may turn one whose gradient is all rounding.
            assert (mine - theirs).abs().mean() < 2e-5


@pytest.mark.slow
def test_the_benchmark_of_a_step_runs_and_finds_the_same_losses(monkeypatch):
    from benchmarks import step

    monkeypatch.setattr(step, "ROWS", 300)
    found = step.run(1, torch.device("cpu"))
    assert found["difference"] < 1e-3
    assert found["operations"]["plain"] > found["operations"]["labeldep"] > 0
