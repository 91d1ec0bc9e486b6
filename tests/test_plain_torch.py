"""Whole updates against plain PyTorch: `backward()`, `torch.optim.Adam(fused=False, foreach=False)`, written anew here.

Both make three updates from the same weights, on the same rows and noise, in double precision. Afterwards every weight
must be the same, and weight, gradient and both moments of Adam must have the same strides: fused Adam walks the memory
of all four side by side.
"""

from __future__ import annotations

import copy
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import draw_image
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, log_softmax

from labeldep_cli.compute.distributed import ALONE
from labeldep_cli.config import AdversarialConfig, PretrainConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import LabeldepError
from labeldep_cli.experiments.requirements import require_decay
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.images import ImageInputs
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.standardizing import Moments
from labeldep_cli.runs import checkpoint
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.draws import mismatched_rows, uniform
from labeldep_cli.training.steps import LogisticStep
from labeldep_cli.training.updates import adam, update

N, F, L, SIDE = 9, 12, 4, 18
STEPS = 3
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Block(nn.Module):
    """3x3, depthwise 3x3, grouped 3x3 and 1x1 convolutions, with the shapes that real backbones mix."""

    def __init__(self, taken, given, stride):
        super().__init__()
        self.wide = nn.Conv2d(taken, 8, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, (3, 1), padding=(1, 0), groups=2)
        self.point = nn.Conv2d(8, given, 1)

    def forward(self, maps):
        maps = torch.tanh(self.norm(self.wide(maps)))
        return torch.tanh(self.point(self.grouped(self.depthwise(maps))))


class Convolutions(nn.Module):
    """Images -> features [B, F]."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 6, 2), Block(6, F, 2))

    def forward(self, images):
        return self.blocks(images).mean((2, 3))


class Attention(nn.Module):
    """Patches by a convolution, then one transformer layer -> features [B, F]."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, F, 6, 6)
        self.layers = nn.Sequential(nn.TransformerEncoderLayer(F, 3, 16, dropout=0.0, batch_first=True))

    def forward(self, images):
        return self.layers(self.patches(images).flatten(2).transpose(1, 2)).mean(dim=1)


def labels():
    y = np.random.default_rng(1).integers(0, 2, (N, L), dtype=np.int8)
    y[::4, 1] = -1  # unknown
    return y


def features(regions=0):
    shape = (N, 1, regions, F) if regions else (N, 1, F)
    x = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    return FeatureInputs(x, labels(), [str(k) for k in range(N)], space(), (), CPU)


def space():
    return LabelSpace(tuple(f"label {k}" for k in range(L)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for row in range(N):
        draw_image(folder / f"{row}.png", row, (30, 24))
    return folder


def images(folder, backbone):
    torch.manual_seed(4)
    encoder = Encoder(backbone().eval())
    split = Split("train", tuple(f"{row}.png" for row in range(N)), labels(), space(), folder)
    return ImageInputs(split, np.arange(N), (), encoder, F, Framing(SIDE), USUAL_RULES, 1, 0, CPU, "full", print)


def make_step(inputs, config, head="linear", weight=1.0):
    encoder = nn.Identity()
    if isinstance(inputs.encoder, Encoder):
        encoder = inputs.encoder.trainable_copy(config.train_bn, config.checkpoint_activations)
    generator = Generator(encoder, seeded_head(head, F, L, int(config.hidden or 0), seed=3).double())
    if not isinstance(config, AdversarialConfig) or config.critic == "none":
        return LogisticStep(generator, inputs, config, weight)
    torch.manual_seed(11)
    critic = Discriminator(L, F, **config.critic_shape)
    for parameter in critic.parameters():  # the initial critic is nearly flat: steepen it
        parameter.data *= 2.0
    return AdversarialStep(generator, critic, inputs, config)


class Plain:
    """The same updates as one would write them from the paper."""

    def __init__(self, step):
        self.inputs, self.config, self.order = step.inputs, step.config, step.order
        self.weight = getattr(step, "weight", None)
        self.generator = copy.deepcopy(step.generator)
        config = self.config
        self.adam_g = plain_adam(self.generator, config.lr, (config.beta1, config.beta2), config.weight_decay)
        self.critic = None
        if isinstance(step, AdversarialStep):
            self.critic = copy.deepcopy(step.critic)
            betas = (self.config.critic_beta1, self.config.critic_beta2)
            self.adam_d = plain_adam(self.critic, self.config.critic_lr, betas, self.config.critic_weight_decay)

    def run(self, step, requests, steps):
        batches = self.inputs.stream(requests)
        for number in range(steps):
            self.generator.train(not getattr(self.config, "freeze_generator", False))
            if self.critic is None:
                self.logistic(*next(batches))
                continue
            for key in range(number * self.config.critic_steps, (number + 1) * self.config.critic_steps):
                (self.density_ratio if self.config.critic == "nce" else self.wasserstein)(key, *next(batches))
            if not self.config.freeze_generator:
                self.fool(number, *next(batches))

    def logistic(self, batch):
        self.adam_g.zero_grad()
        for rows in torch.arange(len(batch.y)).chunk(self.config.accumulate):
            loss = self.cross_entropy(self.generator(batch.x[rows]), batch.y[rows])
            (self.weight * loss * len(rows) / len(batch.y)).backward()
        self.clip(self.generator)
        self.adam_g.step()

    def fool(self, number, batch):
        """Eqs. 2 and 3."""
        noise = uniform(batch.y.shape, self.config.seed, "generator noise", number).double()
        z = self.z(batch)
        self.adam_g.zero_grad()
        for rows in torch.arange(len(batch.y)).chunk(self.config.accumulate):
            y = batch.y[rows]
            logits = self.generator(batch.x[rows])
            fake = (y >= 0) * self.sampled(logits, noise[rows])
            loss = -self.critic(fake, z[rows]).mean() + self.config.alpha * self.cross_entropy(logits, y)
            (loss * len(rows) / len(batch.y)).backward()
        self.clip(self.generator)
        self.adam_g.step()

    def wasserstein(self, key, matched, generated, mismatched=None):
        """Eqs. 4 and 5, the penalty through a second differentiation."""
        config, critic = self.config, self.critic
        real = critic(matched.y.clamp(min=0), self.z(matched))
        with torch.no_grad():
            logits = self.generator(generated.x)
        noise = uniform(logits.shape, config.seed, "critic noise", key).double()
        fake_set = ((generated.y >= 0) * self.sampled(logits, noise)).detach()
        z = self.z(generated)
        fake = critic(fake_set, z)
        loss = fake.mean() - real.mean()
        if config.with_negatives:
            all_labels = torch.from_numpy(labels())
            drawn = mismatched_rows(all_labels, mismatched.rows, config.seed, "mismatched labels", key)
            wrong_set = (mismatched.y >= 0) * all_labels[drawn].double().clamp(min=0)
            loss = (fake.mean() + critic(wrong_set, self.z(mismatched)).mean()) / 2 - real.mean()
        weight = uniform((len(z), 1), config.seed, "interpolation", key).double()
        between = (weight * generated.y.clamp(min=0) + (1 - weight) * fake_set).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between, z).sum(), between, create_graph=True)
        loss = loss + config.lambda_gp * ((slope.norm(dim=1) - 1) ** 2).mean()
        self.down(loss)

    def density_ratio(self, key, matched):
        with torch.no_grad():
            p = torch.sigmoid(self.generator(matched.x))[:, None]
        noise = uniform((len(p), self.config.noise_samples, L), self.config.seed, "critic noise", key).double()
        fakes = (matched.y >= 0)[:, None] * (noise < p).double()
        sets = torch.cat([matched.y.clamp(min=0)[:, None], fakes], dim=1)
        scores = torch.stack([self.critic(sets[:, k], self.z(matched)) for k in range(sets.shape[1])], dim=1)
        self.down(-log_softmax(scores, dim=1)[:, 0].mean())

    def down(self, loss):
        self.adam_d.zero_grad()
        loss.backward()
        self.clip(self.critic)
        self.adam_d.step()

    def clip(self, network):
        if self.config.max_gradient_norm:
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.max_gradient_norm)

    def cross_entropy(self, logits, y):
        each = binary_cross_entropy_with_logits(logits, y.clamp(min=0), reduction="none") * (y >= 0)
        summed = each.sum(dim=1)
        if self.config.label_reduction == "mean":
            summed = summed / (y >= 0).sum(dim=1)
        return summed.mean()

    def sampled(self, logits, noise):
        if self.config.sampling == "none":
            return torch.sigmoid(logits)
        noise = noise.clamp(min=1e-12)
        soft = torch.sigmoid(self.config.inverse_temperature * (logits + (noise / (1 - noise)).log()))
        return soft if self.config.sampling == "gumbel" else (soft > 0.5).double() - soft.detach() + soft

    def z(self, batch):
        with torch.no_grad():
            z = self.inputs.encoder(batch.x)
        return z.mean(dim=1) if z.dim() == 3 else z


def plain_adam(network, lr, betas, decay):
    parameters = list(network.parameters())
    groups = [{"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay}]
    groups.append({"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0})
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=False, foreach=False)


def settings(full, **changes):
    """lr 1e-2: three updates move every weight by some hundredths, so that a wrong one cannot hide."""
    own = {"full": full, "batch_size": 4, "lr": 1e-2, "critic_lr": 1e-2, "critic_layers": 2, "critic_width": 16}
    own |= {"critic_projection": 8, "critic_steps": 2, "noise_samples": 3}
    return AdversarialConfig(**{**own, **changes}).resolved()


def updated(step, steps=STEPS):
    """What both have made of the same weights: (ours, plain torch's), networks by name."""
    plain = Plain(step)
    start = {name: value.clone() for name, value in step.generator.state_dict().items()}
    per_step = (step.config.critic_steps + 1) if isinstance(step, AdversarialStep) else 1
    plain.run(step, islice(step.requests(0), per_step * steps), steps)
    batches = step.inputs.stream(islice(step.requests(0), per_step * steps))
    step.generator.train()  # as `fit` has it
    for number in range(steps):
        step(number, batches)
    mine = step.networks()
    theirs = {"generator": plain.generator, "critic": plain.critic}
    return start, mine, {name: theirs[name] for name in mine}


def assert_same(step, steps=STEPS):
    start, mine, theirs = updated(step, steps)
    for name, network in mine.items():
        expected = theirs[name].state_dict()
        for key, value in network.state_dict().items():
            assert (value - expected[key]).abs().max() < 1e-9, f"{name}.{key}"
    for optimizer in step.optimizers().values():
        if optimizer.state:
            assert_strides(optimizer)
    frozen = getattr(step.config, "freeze_generator", False)
    moved = [float((value.detach() - start[key]).abs().max()) for key, value in step.generator.named_parameters()]
    assert frozen or min(moved) > 1e-3


def assert_strides(optimizer):
    for parameter, state in optimizer.state.items():
        strides = {parameter.stride(), parameter.grad.stride(), state["exp_avg"].stride(), state["exp_avg_sq"].stride()}
        assert len(strides) == 1, (tuple(parameter.shape), strides)


CRITICS = {
    "wgan-gp": {},
    "no negatives": {"negatives": False},
    "unconditional": {"conditional": False},
    "straight-through": {"sampling": "straight-through"},
    "probabilities": {"sampling": "none"},
    "frozen G": {"freeze_generator": True},
    "nce": {"critic": "nce"},
    "nce, frozen G": {"critic": "nce", "freeze_generator": True},
}


class TestHeadMode:
    @pytest.mark.parametrize("head", ["linear", "gcn", "ml-decoder"])
    @pytest.mark.parametrize("hidden", [0, 8])
    def test_pretraining(self, head, hidden):
        inputs = features(regions=3 if head == "ml-decoder" else 0)
        config = PretrainConfig(batch_size=4, lr=1e-2, hidden=hidden).resolved()
        step = make_step(inputs, config, head)
        step.generator.head.fit_to_labels(inputs.labels)
        assert_same(step)

    @pytest.mark.parametrize("critic", list(CRITICS))
    def test_adversarial(self, critic):
        assert_same(make_step(features(), settings(False, **CRITICS[critic])))

    def test_attention_head_beside_a_critic(self):
        assert_same(make_step(features(regions=3), settings(False, hidden=8), "ml-decoder"))

    @pytest.mark.parametrize("changes", [{"label_reduction": "sum"}, {"accumulate": 3}, {"max_gradient_norm": 0.1}])
    def test_with_other_settings(self, changes):
        assert_same(make_step(features(), settings(False, **changes)))

    def test_control(self):
        assert_same(make_step(features(), settings(False, critic="none"), weight=10.0))


class TestFullMode:
    @pytest.mark.parametrize("backbone", [Convolutions, Attention])
    @pytest.mark.parametrize(
        "changes",
        [{}, {"accumulate": 2}, {"checkpoint_activations": True}, {"train_bn": True}, {"max_gradient_norm": 0.1}],
        ids=lambda changes: " ".join(changes) or "plain",
    )
    def test_pretraining(self, folder, backbone, changes):
        config = PretrainConfig(full=True, batch_size=4, lr=1e-2, **changes).resolved()
        assert_same(make_step(images(folder, backbone), config))

    @pytest.mark.parametrize("critic", list(CRITICS))
    def test_adversarial(self, folder, critic):
        assert_same(make_step(images(folder, Convolutions), settings(True, **CRITICS[critic])))

    @pytest.mark.parametrize("backbone", [Convolutions, Attention])
    @pytest.mark.parametrize(
        "changes",
        [{"accumulate": 2}, {"checkpoint_activations": True}, {"train_bn": True}],
        ids=lambda changes: " ".join(changes),
    )
    def test_with_other_settings(self, folder, backbone, changes):
        assert_same(make_step(images(folder, backbone), settings(True, **changes)))


class TestStandardised:
    @pytest.mark.parametrize("critic", list(CRITICS))
    def test_adversarial(self, critic):
        step = make_step(features(), settings(False, **CRITICS[critic]))
        width = step.inputs.feature_dim
        moments = Moments(torch.full((width,), 0.3), torch.linspace(0.5, 2.0, width))
        step.generator.head.standardize_by(moments)
        step.critic.standardize_by(moments)
        assert_same(step)


class TestWeightDecay:
    def test_by_hand(self):
        """The gradient is 0, so only the decay moves a weight: 2 (1 - 0.1 * 3) = 1.4; a bias and a norm stay."""
        network = nn.Sequential(nn.Linear(1, 1), nn.LayerNorm(1))
        for parameter in network.parameters():
            nn.init.constant_(parameter, 2.0)
        optimizer = adam(network, 0.1, (0.9, 0.999), weight_decay=3.0)
        zeros = [torch.zeros_like(parameter) for parameter in network.parameters()]
        update(optimizer, zeros, {"loss": torch.zeros(())}, ALONE, 0.0)
        assert [p.item() for p in network.parameters()] == pytest.approx([1.4, 2.0, 2.0, 2.0])

    @pytest.mark.parametrize("critic", ["wgan-gp", "nce"])
    def test_each_network_has_its_own(self, critic):
        """As plain AdamW with a group of weights and a group of biases."""
        step = make_step(features(), settings(False, critic=critic, weight_decay=5.0, critic_weight_decay=20.0))
        assert_same(step)
        assert {g["weight_decay"] for g in step.optimizer_g.param_groups} == {0.0, 5.0}

    def test_a_decay_that_turns_weights_around_is_refused(self):
        require_decay(PretrainConfig(lr=0.01, weight_decay=99.0).resolved())
        with pytest.raises(LabeldepError, match=r"multiplies weights by -0.5"):
            require_decay(PretrainConfig(lr=0.01, weight_decay=150.0).resolved())
        with pytest.raises(LabeldepError, match=r"--critic-weight-decay 4000 with --critic-lr 0\.0003"):
            require_decay(AdversarialConfig(critic="nce", critic_weight_decay=4000.0).resolved())


class TestLayout:
    @pytest.mark.parametrize("weights_last", [False, True])
    @pytest.mark.parametrize("gradients_last", [False, True])
    def test_any_gradient_moves_its_own_weight(self, weights_last, gradients_last):
        """By hand: a first step of Adam moves each entry by lr against the sign of its own gradient."""

        def lay(tensor, last):
            return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)

        signs = torch.where(torch.rand(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) < 0.5, -1.0, 1.0)
        network = nn.Conv2d(3, 4, 3, bias=False)
        network.weight.data = lay(torch.zeros(4, 3, 3, 3), weights_last)
        optimizer = adam(network, 0.5, (0.9, 0.999))
        update(optimizer, [lay(signs, gradients_last)], {"loss": torch.zeros(())}, ALONE, 0.0)
        torch.testing.assert_close(network.weight.data, -0.5 * signs)
        assert_strides(optimizer)

    def test_a_gradient_without_memory_of_its_own(self):
        """The gradient of a sum is one number, stretched over the weight."""
        network = nn.Linear(3, 2, bias=False)
        before = network.weight.detach().clone()
        (gradient,) = torch.autograd.grad(network.weight.sum(), [network.weight])
        assert gradient.stride() == (0, 0)
        optimizer = adam(network, 0.5, (0.9, 0.999))
        update(optimizer, [gradient], {"loss": torch.zeros(())}, ALONE, 0.0)
        torch.testing.assert_close(network.weight.data, before - 0.5)
        assert_strides(optimizer)

    def test_two_weights_with_one_gradient_are_shortened_once(self):
        """Norm of (3, 4) is 5; at most 1: (0.6, 0.8), also where one tensor stands for two weights."""
        network = nn.ParameterList([torch.zeros(2), torch.zeros(2)])
        optimizer = adam(network, 0.5, (0.9, 0.999))
        one = torch.tensor([3.0, 4.0])
        update(optimizer, [one, one], {"loss": torch.zeros(())}, ALONE, 50**0.5 / 5)
        for parameter in network:
            torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]), rtol=1e-6, atol=0)

    @pytest.mark.parametrize("weights_last", [False, True])
    def test_moments_have_the_weights_strides_after_resume(self, folder, tmp_path, weights_last):
        step = make_step(images(folder, Convolutions), settings(True))
        if weights_last:
            step.generator.to(memory_format=torch.channels_last)
        assert_same(step, 1)
        for name, optimizer in step.optimizers().items():
            checkpoint.save(tmp_path / "last.safetensors", checkpoint.pack_optimizer(name, optimizer), {})
            tensors, _ = checkpoint.load(tmp_path / "last.safetensors")
            before = {p: s["exp_avg"].clone() for p, s in optimizer.state.items()}
            checkpoint.unpack_optimizer(name, tensors, optimizer)
            assert_strides(optimizer)
            for parameter, state in optimizer.state.items():
                torch.testing.assert_close(state["exp_avg"], before[parameter], rtol=0, atol=0)
