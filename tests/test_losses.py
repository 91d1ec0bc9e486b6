"""The paper's equations, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import binary_cross_entropy

from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    gumbel_sigmoid,
    logistic_loss,
    sample,
)


def uniform(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TestLogisticLoss:
    def test_sums_over_labels_and_averages_over_images(self):
        logits = torch.tensor([[math.log(3), 0.0], [0.0, -math.log(3)]])  # probabilities 3/4, 1/2; 1/2, 1/4
        y = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        by_hand = ((math.log(4 / 3) + math.log(2)) + (math.log(2) + math.log(4))) / 2  # nats an image: 1.5301
        assert by_hand == pytest.approx(1.5301, abs=1e-4)
        assert logistic_loss(logits, y, "sum").item() == pytest.approx(by_hand, rel=1e-6)

    def test_averages_over_the_known_labels_of_each_image(self):
        logits = torch.tensor([[math.log(3), 0.0, 9.0], [0.0, 9.0, 9.0], [9.0, 9.0, 9.0]], requires_grad=True)
        y = torch.tensor([[1.0, 0.0, -1.0], [1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])  # two, one and no label known
        loss = logistic_loss(logits, y, "mean")
        by_hand = ((math.log(4 / 3) + math.log(2)) / 2 + math.log(2) + 0) / 3
        assert loss.item() == pytest.approx(by_hand, rel=1e-6)
        loss.backward()
        # (p - y) / known labels / images: (3/4 - 1) / 2 / 3, 1/2 / 2 / 3; (1/2 - 1) / 3
        expected = [[-1 / 24, 1 / 12, 0], [-1 / 6, 0, 0], [0, 0, 0]]
        torch.testing.assert_close(logits.grad, torch.tensor(expected))

    def test_a_mean_is_the_sum_over_l(self):
        logits, y = torch.randn(6, 80, generator=torch.Generator().manual_seed(1)), uniform(6, 80).round()
        torch.testing.assert_close(80 * logistic_loss(logits, y, "mean"), logistic_loss(logits, y, "sum"))

    def test_a_certain_zero_logit_costs_ln_2_a_label(self):
        zeros = torch.zeros(5, 80)
        assert logistic_loss(zeros, zeros, "sum").item() == pytest.approx(80 * math.log(2), rel=1e-6)

    def test_an_unknown_label_counts_neither_in_value_nor_in_gradient(self):
        logits = torch.tensor([[math.log(3), 7.0], [0.0, 0.0]], requires_grad=True)
        loss = logistic_loss(logits, torch.tensor([[1.0, -1.0], [-1.0, 0.0]]), "sum")
        assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2, rel=1e-6)
        loss.backward()
        # (p - y) / images for the known ones: (3/4 - 1) / 2 and (1/2 - 0) / 2
        torch.testing.assert_close(logits.grad, torch.tensor([[-0.125, 0.0], [0.0, 0.25]]))

    def test_extreme_logits_stay_finite(self):
        logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
        loss = logistic_loss(logits, torch.tensor([[0.0, 1.0]]), "sum")
        loss.backward()
        assert loss.item() == 400.0 and logits.grad.tolist() == [[1.0, -1.0]]

    def test_agrees_with_binary_cross_entropy_of_probabilities(self):
        logits, y = torch.randn(6, 9, generator=torch.Generator().manual_seed(1)), uniform(6, 9).round()
        reference = binary_cross_entropy(torch.sigmoid(logits), y, reduction="sum") / 6
        torch.testing.assert_close(logistic_loss(logits, y, "sum"), reference)


class TestGumbelSigmoid:
    N = 200_000

    @pytest.mark.parametrize("inverse_temperature", [0.1, 0.9, 1.0, 5.0])
    @pytest.mark.parametrize("logit", [-2.0, 0.0, 0.5, 3.0])
    def test_exceeds_half_with_the_labels_probability(self, logit, inverse_temperature):
        soft = gumbel_sigmoid(torch.full((self.N, 1), logit), uniform(self.N, 1, seed=3), inverse_temperature)
        p = 1 / (1 + math.exp(-logit))
        standard_error = math.sqrt(p * (1 - p) / self.N)
        assert (soft > 0.5).double().mean().item() == pytest.approx(p, abs=4 * standard_error)

    @pytest.mark.parametrize(("a", "mean"), [(3.0, 0.6760), (0.25, 0.2828), (20.0, 0.8867)])
    def test_mean_at_inverse_temperature_one(self, a, mean):
        assert a / (a - 1) - a * math.log(a) / (a - 1) ** 2 == pytest.approx(mean, abs=5e-5)
        noise = ((torch.arange(self.N, dtype=torch.float64) + 0.5) / self.N).unsqueeze(1)  # every quantile once
        soft = gumbel_sigmoid(torch.full_like(noise, math.log(a)), noise, 1.0)
        assert soft.mean().item() == pytest.approx(mean, abs=5e-5)

    def test_the_inverse_temperature_multiplies_the_noisy_logits(self):
        # u = 0.8 adds ln 4 to the logit ln 2: 0.9 * ln 8, so 8 ** 0.9 / (1 + 8 ** 0.9) = 6.498 / 7.498
        soft = gumbel_sigmoid(torch.tensor([[math.log(2)]]), torch.tensor([[0.8]]), 0.9)
        assert soft.item() == pytest.approx(6.498 / 7.498, abs=1e-5)

    @pytest.mark.parametrize("inverse_temperature", [0.9, 10.0])
    def test_the_ends_of_the_noise_stay_finite(self, inverse_temperature):
        logits = torch.tensor([[-30.0, 0.0, 30.0], [-30.0, 0.0, 30.0]], requires_grad=True)
        noise = torch.tensor([[0.0], [1.0]]).expand(2, 3)
        soft = gumbel_sigmoid(logits, noise, inverse_temperature)
        soft.sum().backward()
        assert soft.isfinite().all() and logits.grad.isfinite().all()
        assert soft[0, 1] < 1e-6 and soft[1, 1] > 1 - 1e-6

    def test_larger_noise_gives_larger_samples(self):
        soft = gumbel_sigmoid(torch.zeros(9, 1), torch.linspace(0.1, 0.9, 9).unsqueeze(1), 0.9)
        assert (soft.diff(dim=0) > 0).all() and soft[4].item() == pytest.approx(0.5, abs=1e-6)


class TestSample:
    def draw(self, sampling, logits):
        return sample(logits, uniform(*logits.shape, seed=5), 0.9, sampling)

    def test_straight_through_is_hard_with_the_soft_gradient(self):
        start = 2 * torch.randn(50, 7, generator=torch.Generator().manual_seed(2))
        hard_logits, soft_logits = start.clone().requires_grad_(), start.clone().requires_grad_()
        hard, soft = self.draw("straight-through", hard_logits), self.draw("gumbel", soft_logits)
        assert hard.unique().tolist() == [0.0, 1.0]
        assert torch.equal(hard, (soft > 0.5).float())
        slope = uniform(50, 7, seed=6)
        (hard * slope).sum().backward()
        (soft * slope).sum().backward()
        torch.testing.assert_close(hard_logits.grad, soft_logits.grad)
        assert hard_logits.grad.abs().min() > 0

    def test_none_gives_the_probabilities_whatever_the_noise(self):
        logits = torch.tensor([[math.log(3), 0.0, -math.log(4)]])
        for noise in (uniform(1, 3), torch.zeros(1, 3)):
            torch.testing.assert_close(sample(logits, noise, 0.9, "none"), torch.tensor([[0.75, 0.5, 0.2]]))

    def test_gumbel_is_the_soft_sample(self):
        logits = torch.zeros(3, 2)
        assert torch.equal(self.draw("gumbel", logits), gumbel_sigmoid(logits, uniform(3, 2, seed=5), 0.9))


class TestScores:
    real, fake, mismatched = torch.tensor([4.0, 6.0]), torch.tensor([1.0, 2.0, 3.0]), torch.tensor([-1.0, 2.0])

    def test_critic_loss_halves_the_two_kinds_of_negatives(self):
        assert critic_loss(self.real, self.fake, self.mismatched).item() == (2 + 0.5) / 2 - 5  # -3.75

    def test_critic_loss_without_negatives_weighs_the_generated_term_with_one(self):
        assert critic_loss(self.real, self.fake, None).item() == 2 - 5

    def test_generator_loss_is_minus_the_mean_score(self):
        assert generator_loss(self.fake).item() == -2.0


class Quadratic:
    """A critic whose gradient is its label set: D(y, z) = |y|^2 / 2."""

    def __call__(self, y, z):
        return y.square().sum(dim=1) / 2


class TestGradientPenalty:
    @pytest.mark.parametrize("seed", [0, 1])
    @pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
    def test_is_16_for_a_linear_critic_of_slope_3_4(self, seed, weight):
        slope = torch.tensor([3.0, 4.0])  # the norm is 5 everywhere: (5 - 1)^2
        penalty = gradient_penalty(
            lambda y, z: y @ slope,
            uniform(6, 2, seed=seed).round(),
            uniform(6, 2, seed=seed + 10),
            uniform(6, 5, seed=seed + 20),
            torch.full((6, 1), weight),
        )
        assert penalty.item() == 16.0

    def test_the_norm_is_one_per_image(self):
        z = torch.tensor([[3.0, 4.0], [0.0, 1.0], [0.0, 0.0]])  # the gradients of D(y, z) = y . z: norms 5, 1, 0
        y = torch.zeros(3, 2)
        penalty = gradient_penalty(lambda y, z: (y * z).sum(dim=1), y, y, z, torch.zeros(3, 1))
        assert penalty.item() == pytest.approx((16 + 0 + 1) / 3, rel=1e-5)  # over the batch: (sqrt(26) - 1)^2 = 16.8

    def test_is_taken_between_the_two_label_sets_of_an_image(self):
        real, fake = torch.tensor([[1.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 1.0], [0.0, 0.0]])
        weight = torch.tensor([[0.25], [0.5]])  # y* = (1/4, 3/4) and (1/2, 1/2), and their norms:
        norms = math.sqrt(0.625), math.sqrt(0.5)
        by_hand = sum((norm - 1) ** 2 for norm in norms) / 2
        assert by_hand == pytest.approx(0.06482, abs=1e-5)
        penalty = gradient_penalty(Quadratic(), real, fake, torch.zeros(2, 3), weight)
        assert penalty.item() == pytest.approx(by_hand, rel=1e-5)

    def test_weight_one_is_the_true_label_set(self):
        real, fake = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
        penalty = gradient_penalty(Quadratic(), real, fake, torch.zeros(1, 1), torch.ones(1, 1))
        assert penalty.item() == pytest.approx(16.0, rel=1e-6)

    def test_teaches_the_critic_and_nothing_else(self):
        slope = torch.tensor([3.0, 4.0], requires_grad=True)
        real, fake, z = (uniform(4, 2, seed=seed).requires_grad_() for seed in range(3))
        penalty = gradient_penalty(lambda y, z: (y * z) @ slope + (z @ slope), real, fake, z, uniform(4, 1))
        penalty.backward()
        assert slope.grad.abs().min() > 0
        assert real.grad is None and fake.grad is None and z.grad is None

    def test_of_a_linear_critic_pulls_its_norm_to_one(self):
        slope = torch.tensor([3.0, 4.0], requires_grad=True)
        gradient_penalty(lambda y, z: y @ slope, *(uniform(3, 2, seed=s) for s in range(3)), uniform(3, 1)).backward()
        # d (|s| - 1)^2 / ds = 2 (|s| - 1) s / |s| = 8 (3/5, 4/5)
        torch.testing.assert_close(slope.grad, torch.tensor([4.8, 6.4]))

    def test_a_flat_critic_gives_one_and_a_finite_gradient(self):
        slope = torch.zeros(2, requires_grad=True)
        penalty = gradient_penalty(lambda y, z: y @ slope, *(uniform(3, 2, seed=s) for s in range(3)), uniform(3, 1))
        penalty.backward()
        assert penalty.item() == pytest.approx(1.0, abs=1e-5) and slope.grad.isfinite().all()

    @pytest.mark.parametrize("conditional", [True, False])
    def test_equals_plain_autograd_on_the_real_critic(self, conditional):
        torch.manual_seed(0)
        critic = Discriminator(6, 10, 8, 32, 16, 0.2, conditional).double()
        for parameter in critic.parameters():  # the initial critic is nearly flat: steepen it, so that norms differ
            parameter.data *= 2.5
        real, fake, z, weight = (
            uniform(5, width, seed=seed).double() for seed, width in enumerate((6, 6, 10, 1), start=1)
        )
        parameters = list(critic.parameters())
        got = gradient_penalty(critic, real.round(), fake, z, weight)
        got_gradients = torch.autograd.grad(got, parameters, allow_unused=True)

        penalties = []
        for i in range(5):  # one image at a time
            y = (fake[i] + weight[i] * (real[i].round() - fake[i])).requires_grad_()
            (slope,) = torch.autograd.grad(critic(y[None], z[i : i + 1]).squeeze(), y, create_graph=True)
            penalties.append((torch.linalg.vector_norm(slope) - 1) ** 2)
        expected = torch.stack(penalties).mean()
        expected_gradients = torch.autograd.grad(expected, parameters, allow_unused=True)

        assert torch.stack(penalties).std() > 1e-3
        torch.testing.assert_close(got, expected, rtol=1e-8, atol=0)
        taught = 0
        for mine, theirs in zip(got_gradients, expected_gradients, strict=True):
            mine, theirs = (torch.zeros(()) if g is None else g for g in (mine, theirs))
            torch.testing.assert_close(mine.double() + 0 * theirs, theirs.double() + 0 * mine, rtol=1e-6, atol=1e-10)
            taught += bool(theirs.abs().max() > 0)
        assert taught == 10  # the weights of projection, eight layers and score; a gradient in y knows no bias
