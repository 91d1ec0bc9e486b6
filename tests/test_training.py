"""Keyed draws, the steps, the loop and what it leaves on disk."""

from __future__ import annotations

import json
import math
import shutil
from itertools import chain, islice

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import AdversarialConfig, PretrainConfig, changed, pick
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.errors import CheckpointError, TrainingError
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.members import MembersCritic
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.facts import require_last
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training import adversarial_step, losses, steps, updates
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.critics import wasserstein
from labeldep_cli.training.critics.wasserstein_gradient import critic_update
from labeldep_cli.training.draws import epoch_rows, keyed, mismatched_rows, random_rows, random_views, uniform
from labeldep_cli.training.fit import Schedule, fit
from labeldep_cli.training.steps import LogisticStep

CPU = torch.device("cpu")
FILES = (LAST, BEST, METRICS, RESULT)
F, L = 6, 4


def make_inputs(n, seed=0, labels=None, n_views=1):
    """n rows whose labels follow from their features."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, n_views, F)).astype(np.float32)
    if labels is None:
        labels = (features[:, 0, :L] + 0.3 * features[:, 0, 1 : L + 1] > 0).astype(np.int8)
    space = LabelSpace(tuple(f"label {k}" for k in range(L)))
    return FeatureInputs(features, labels, [f"row {k}" for k in range(n)], space, (), CPU)


def make_config(**changes):
    return AdversarialConfig(
        **{"batch_size": 8, "lr": 1e-2, "hidden": 0, "critic_layers": 2, "critic_width": 16, "critic_projection": 8}
        | changes
    )


def make_critic(config):
    torch.manual_seed(11)
    shape = (config.critic_layers, config.critic_width, config.critic_projection, 0.2, config.conditional)
    members = [Discriminator(L, F, *shape) for _ in range(config.members)]
    return members[0] if len(members) == 1 else MembersCritic(members)


def make_step(inputs, adversarial=True, **changes):
    config = make_config(**changes)
    generator = Generator(torch.nn.Identity(), seeded_head("linear", F, L, 0, seed=3))
    if not adversarial:
        return LogisticStep(generator, inputs, config)
    return AdversarialStep(generator, make_critic(config), inputs, config)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def asked(step, n, first=0):
    """The first n batches that a step asks for, whichever updates they are for."""
    return list(islice(chain.from_iterable(step.requests(first)), n))


class TestConfig:
    def test_head_and_full_mode_fill_in_their_own(self):
        assert (PretrainConfig().resolved().lr, PretrainConfig().resolved().batch_size) == (1e-3, 128)
        full = PretrainConfig(full=True).resolved()
        assert (full.lr, full.batch_size, full.hidden) == (1e-4, 32, 0)
        assert AdversarialConfig().resolved().lr == AdversarialConfig(full=True).resolved().lr == 1e-4

    def test_what_is_given_stays(self):
        config = PretrainConfig(lr=0.5, batch_size=7, hidden=3).resolved()
        assert (config.lr, config.batch_size, config.hidden) == (0.5, 7, 3)
        assert PretrainConfig().lr is None and config.resolved() == config

    def test_the_hidden_layer_of_the_adversarial_stage_is_left_to_its_start(self):
        assert AdversarialConfig().resolved().hidden is None

    def test_the_paper_s_numbers(self):
        config = AdversarialConfig().resolved()
        assert (config.alpha, config.lambda_gp, config.critic_steps, config.inverse_temperature) == (10, 10, 3, 0.9)
        assert (config.critic_layers, config.critic_width, config.critic_projection) == (8, 512, 256)
        assert config.lr == config.critic_lr == 1e-4

    def test_steps_go_before_epochs_and_epochs_before_the_default(self):
        assert PretrainConfig(steps=7, epochs=3).total_steps(10) == 7
        assert PretrainConfig(epochs=3).total_steps(10) == 30
        epochs, least = PretrainConfig.HEAD_LENGTH
        assert PretrainConfig().total_steps(1000) == epochs * 1000 and PretrainConfig().total_steps(1) == least

    def test_the_control_and_the_unconditional_critic(self):
        assert AdversarialConfig().stage == "adversarial" and AdversarialConfig(critic="none").stage == "control"
        assert AdversarialConfig().with_negatives and not AdversarialConfig(conditional=False).with_negatives

    def test_changed_names_what_differs_on_both_sides(self):
        mine, theirs = {"alpha": 5.0, "seed": 0, "new": 1}, {"alpha": 10.0, "seed": 0, "old": "x"}
        assert changed(mine, theirs) == [
            "alpha 10.0 there, 5.0 here",
            "new None there, 1 here",
            "old 'x' there, None here",
        ]
        assert changed(mine, dict(mine)) == []

    def test_pick_ignores_the_settings_of_others(self):
        config = pick(PretrainConfig, {"lr": 0.25, "alpha": 3, "dataset": "coco"})
        assert config == PretrainConfig(lr=0.25)


class TestDraws:
    def test_the_same_key_draws_the_same(self):
        assert torch.equal(uniform((3, 2), 0, "noise", 5), uniform((3, 2), 0, "noise", 5))

    @pytest.mark.parametrize("other", [(1, "noise", 5), (0, "other", 5), (0, "noise", 6)])
    def test_another_seed_purpose_or_step_draws_something_else(self, other):
        assert not torch.equal(uniform((3, 2), 0, "noise", 5), uniform((3, 2), *other))

    def test_neither_reads_nor_moves_the_global_generator(self):
        torch.manual_seed(1)
        first, after = uniform((4,), 0, "noise", 5), torch.rand(2)
        torch.manual_seed(1)
        assert torch.equal(torch.rand(2), after)  # as if nothing had been drawn in between
        assert torch.equal(uniform((4,), 0, "noise", 5), first)

    def test_is_uniform_on_the_unit_interval(self):
        noise = uniform((100_000,), 0, "noise", 0)
        assert noise.min() >= 0 and noise.max() < 1
        assert noise.mean().item() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 100_000))

    def test_keys_do_not_run_into_each_other(self):
        assert keyed(1, "1 x", 2).initial_seed() != keyed(11, "x", 2).initial_seed()

    @pytest.mark.parametrize(("n", "batch_size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 8, [3])])
    def test_an_epoch_is_a_permutation_in_ceil_batches(self, n, batch_size, sizes):
        orders = []
        for epoch in range(3):
            batches = [epoch_rows(n, batch_size, 0, epoch * len(sizes) + k) for k in range(len(sizes))]
            assert [len(batch) for batch in batches] == sizes
            orders.append(torch.cat(batches).tolist())
            assert sorted(orders[-1]) == list(range(n))
        assert n < 8 or orders[0] != orders[1] != orders[2]

    def test_epochs_do_not_depend_on_where_one_starts(self):
        late = epoch_rows(100, 10, 0, 57)
        for step in range(58):
            rows = epoch_rows(100, 10, 0, step)
        assert torch.equal(rows, late)

    def test_random_rows_are_within_and_no_more_than_there_are(self):
        assert set(random_rows(3, 8, 0, "critic", 0).tolist()) <= {0, 1, 2}
        assert len(random_rows(3, 8, 0, "critic", 0)) == 3 and len(random_rows(100, 8, 0, "critic", 0)) == 8

    def test_views(self):
        assert random_views(5, 1, 0, "views", 0).tolist() == [0] * 5
        assert set(random_views(500, 4, 0, "views", 0).tolist()) == {0, 1, 2, 3}
        counts = torch.bincount(random_views(25_000, 21, 0, "views", 0), minlength=21)
        assert len(counts) == 21 and (counts[1:] - 1000).abs().max() < 4 * math.sqrt(1000)
        assert abs(counts[0] - 5000) < 4 * math.sqrt(4000)  # one of five sizes, and that one has one position


class TestMismatchedRows:
    def test_never_a_label_set_equal_to_the_image_s_own(self):
        labels = torch.tensor([[k >> b & 1 for b in range(4)] for k in range(10)] * 20, dtype=torch.int8)
        rows = random_rows(200, 200, 0, "rows", 0)
        for step in range(50):  # 10,000 rows; a tenth of all draws is equal at first, 1e-11 after ten redraws
            others = mismatched_rows(labels, rows, 0, "mismatched", step)
            assert not (labels[others] == labels[rows]).all(dim=1).any()

    def test_all_equal_ends_after_ten_redraws(self, monkeypatch):
        drawn, randint = [], torch.randint

        def counting(*args, **options):
            drawn.append(args)
            return randint(*args, **options)

        monkeypatch.setattr(torch, "randint", counting)
        others = mismatched_rows(torch.ones(5, 3, dtype=torch.int8), torch.arange(4), 0, "mismatched", 0)
        assert len(drawn) == 11 and others.shape == (4,) and others.max() < 5

    def test_what_differs_is_not_drawn_again(self, monkeypatch):
        labels = torch.eye(50, dtype=torch.int8)
        first = torch.randint(50, (50,), generator=keyed(0, "mismatched", 3))
        equal = first == torch.arange(50)
        others = mismatched_rows(labels, torch.arange(50), 0, "mismatched", 3)
        assert torch.equal(others[~equal], first[~equal])

    def test_what_is_drawn_again_is_drawn_from_all_rows(self):
        """The batch is of four rows that are alike, and so are six more: only the 90 others will do."""
        labels = torch.tensor([[1]] * 10 + [[0]] * 90, dtype=torch.int8)
        for step in range(50):
            assert mismatched_rows(labels, torch.arange(4), 0, "mismatched", step).min() >= 10

    def test_sets_that_differ_in_the_image_s_unknown_label_alone_are_equal(self):
        """The image has label 0, and nobody knows of label 1: the critic sees (1, 0) and (1, 1) as one set."""
        labels = torch.tensor([[1, -1]] * 10 + [[1, 0]] * 10 + [[1, 1]] * 10 + [[0, 1]] * 70, dtype=torch.int8)
        for step in range(50):
            others = mismatched_rows(labels, torch.zeros(8, dtype=torch.int64), 0, "mismatched", step)
            assert (labels[others, 0] == 0).all()


class TestLogisticStep:
    def test_asks_for_one_batch_a_step(self):
        step = make_step(make_inputs(20), adversarial=False)
        for k, request in enumerate(asked(step, 3, first=4)):
            assert torch.equal(request.rows, epoch_rows(20, 8, 0, 4 + k))

    def test_the_control_weighs_its_loss(self, monkeypatch):
        seen = []

        def remember(optimizer, taken, told, world, max_norm):
            seen.append(taken[0])
            return told

        monkeypatch.setattr(updates, "update", remember)
        inputs = make_inputs(20)
        plain = make_step(inputs, adversarial=False)
        weighted = LogisticStep(plain.generator, inputs, plain.config, weight=10.0)
        told = [step(0, inputs.stream(step.requests(0))) for step in (plain, weighted)]
        assert told[0]["logistic"] == told[1]["logistic"]
        torch.testing.assert_close(seen[1], 10 * seen[0])

    def test_the_losses_of_two_processes_add_up_to_that_of_one(self):
        """A batch of five rows, of which one process has two and the other three."""
        inputs = make_inputs(5)

        def told(world):
            step = make_step(inputs, adversarial=False, batch_size=5)
            step.world = world
            return step(0, inputs.stream(step.requests(0)))["logistic"].item()

        assert told(Silenced(0, 2)) + told(Silenced(1, 2)) == pytest.approx(told(ALONE), rel=1e-6)


class Silenced(World):
    """A process whose sums stay its own."""

    def add(self, parts):
        pass


class SplitPredictions:
    """Remembers the label sets that the critic is shown, in order: those of its own updates, then the generator's."""

    def __init__(self, step, monkeypatch):
        self.sets = []

        def remember(critic, matched, generated, mismatched, between, *rest, **named):
            pairs = [matched, generated] if mismatched is None else [matched, generated, mismatched]
            self.sets += [pair.y.clone() for pair in pairs] + [between.clone()]
            return critic_update(critic, matched, generated, mismatched, between, *rest, **named)

        monkeypatch.setattr(wasserstein, "critic_update", remember)
        step.critic.register_forward_hook(lambda module, args, scores: self.sets.append(args[0].detach().clone()))


class TestAdversarialStep:
    @pytest.mark.parametrize(
        ("changes", "count"),
        [
            ({}, 3 * 3 + 1),
            ({"negatives": False}, 3 * 2 + 1),
            ({"conditional": False}, 3 * 2 + 1),  # mismatched pairs mean nothing to a critic that sees no image
            ({"critic_steps": 5}, 5 * 3 + 1),
        ],
    )
    def test_batches_of_a_step(self, changes, count):
        inputs = make_inputs(30)
        step = make_step(inputs, **changes)
        wanted = asked(step, 2 * count)
        for k in (0, 1):  # the last of each step is the generator's
            assert torch.equal(wanted[(k + 1) * count - 1].rows, epoch_rows(30, 8, 0, k))
        assert torch.equal(asked(step, 1, first=1)[0].rows, wanted[count].rows)
        served = []

        def stream():
            for update in inputs.stream(step.requests(0)):
                served.extend(update)
                yield update

        batches = stream()
        step(0, batches)
        assert len(served) == count
        step(1, batches)
        assert len(served) == 2 * count

    def test_the_critic_s_three_batches_are_drawn_apart(self):
        wanted = asked(make_step(make_inputs(500), batch_size=64), 10)
        rows = [tuple(request.rows.tolist()) for request in wanted]
        assert len(set(rows)) == 10

    def test_and_so_are_their_views(self):
        wanted = asked(make_step(make_inputs(64, n_views=5), batch_size=64), 10)
        assert len({tuple(request.views.tolist()) for request in wanted}) == 10

    @pytest.mark.parametrize("negatives", [True, False])
    def test_what_the_critic_is_shown(self, monkeypatch, negatives):
        inputs = make_inputs(30)
        step = make_step(inputs, critic_steps=1, negatives=negatives)
        wanted = asked(step, 3 if negatives else 2)
        seen = SplitPredictions(step, monkeypatch)
        step(0, inputs.stream(step.requests(0)))
        assert len(seen.sets) == (5 if negatives else 4)  # with the penalty's and the generator's own
        real, fake, between, generated = seen.sets[0], seen.sets[1], seen.sets[-2], seen.sets[-1]
        labels = inputs.labels.float()
        assert torch.equal(real, labels[wanted[0].rows])
        for soft in (fake, generated):
            assert ((soft > 0) & (soft < 1)).all()
        true = labels[wanted[1].rows]  # of the generated batch's own images: the sets between lie on that line
        weight = uniform((8, 1), 0, "interpolation", 0)
        torch.testing.assert_close(between, weight * true + (1 - weight) * fake)
        if negatives:
            own, mismatched = labels[wanted[2].rows], seen.sets[2]
            assert not (mismatched == own).all(dim=1).any()
            assert all(any(torch.equal(y, row) for row in labels) for y in mismatched)

    def test_unknown_labels_are_left_out_of_every_set(self, monkeypatch):
        known = make_inputs(30).labels.numpy().copy()
        known[:, 2] = 0
        unknown = known.copy()
        unknown[:, 2] = -1
        shown = []
        for labels in (known, unknown):
            inputs = make_inputs(30, labels=labels)
            step = make_step(inputs, critic_steps=1)
            seen = SplitPredictions(step, monkeypatch)
            step(0, inputs.stream(step.requests(0)))
            shown.append(seen.sets)
        names = ("real", "fake", "mismatched", "between", "generated")
        for name, with_zeros, without in zip(names, *shown, strict=True):
            assert (without[:, 2] == 0).all(), name
            assert (with_zeros[:, 2] == 0).all() == (name in ("real", "mismatched")), name
            others = [0, 1, 3]
            assert (with_zeros[:, others] != 0).any() and (without[:, others] != 0).any(), name

    def test_a_label_unknown_in_some_rows_is_left_out_of_their_generated_sets_only(self, monkeypatch):
        labels = make_inputs(30).labels.numpy().copy()
        labels[::2, 1] = -1
        inputs = make_inputs(30, labels=labels)
        step = make_step(inputs, critic_steps=1)
        wanted = asked(step, 4)
        seen = SplitPredictions(step, monkeypatch)
        step(0, inputs.stream(step.requests(0)))
        for shown, request in ((seen.sets[1], wanted[1]), (seen.sets[4], wanted[3])):
            unknown = inputs.labels[request.rows, 1] == -1
            assert 0 < unknown.sum() < len(unknown)
            assert (shown[unknown, 1] == 0).all() and (shown[~unknown, 1] > 0).all()

    def test_a_mismatched_set_leaves_out_what_its_new_image_does_not_know(self, monkeypatch):
        """Label 1 is there in every odd row and unknown in every even one."""
        labels = make_inputs(30).labels.numpy().copy()
        labels[:, 1] = 1
        labels[::2, 1] = -1
        inputs = make_inputs(30, labels=labels)
        step = make_step(inputs, critic_steps=1, batch_size=30)
        wanted = asked(step, 3)
        seen = SplitPredictions(step, monkeypatch)
        step(0, inputs.stream(step.requests(0)))
        odd = wanted[2].rows % 2 == 1
        mismatched = seen.sets[2]
        assert (mismatched[~odd, 1] == 0).all() and mismatched[odd, 1].unique().tolist() == [0, 1]

    def test_each_optimizer_moves_its_own_network_alone(self, monkeypatch):
        inputs = make_inputs(30)
        for frozen, learning, optimizer in (("critic", "generator", "d"), ("generator", "critic", "g")):
            step = make_step(inputs)
            before = {name: state_of(network) for name, network in step.networks().items()}
            monkeypatch.setattr(step.optimizers()[f"optimizer_{optimizer}"], "step", lambda: None)
            step(0, inputs.stream(step.requests(0)))
            after = {name: state_of(network) for name, network in step.networks().items()}
            assert same(after[frozen], before[frozen]) and not same(after[learning], before[learning])
            assert all(
                not torch.equal(after[learning][name], before[learning][name])
                for name in after[learning]
                if name != "score.4.bias"  # Wasserstein: a constant added to all scores changes nothing
            )

    def test_optimizers_hold_only_their_own_parameters(self):
        inputs = make_inputs(30)
        step = make_step(inputs)
        step(0, inputs.stream(step.requests(0)))
        for optimizer, network in ((step.optimizer_g, step.generator), (step.optimizer_d, step.critic)):
            assert {id(p) for p in optimizer.state} <= {id(p) for p in network.parameters()}
            assert [id(p) for g in optimizer.param_groups for p in g["params"]] == [id(p) for p in network.parameters()]
        assert step.optimizer_d.state[step.critic.project_labels.weight]["step"] == 3
        assert step.optimizer_g.state[step.generator.head[0].weight]["step"] == 1

    def test_the_warm_up_comes_once(self):
        """Five updates of the critic before the first step, and three at each."""
        inputs = make_inputs(30)
        step = make_step(inputs, critic_warmup=5, critic_steps=3)
        batches, made = inputs.stream(step.requests(0)), []
        for number in range(3):
            step(number, batches)
            made.append(int(step.optimizer_d.state[step.critic.project_labels.weight]["step"]))
        assert made == [8, 11, 14]

    @pytest.mark.parametrize("frozen", [True, False])
    def test_a_frozen_generator_answers_as_at_test_time(self, frozen):
        inputs = make_inputs(30)
        step = make_step(inputs, freeze_generator=frozen)
        step.generator.train(frozen)  # the other way round than it has to be
        modes = []
        step.generator.register_forward_pre_hook(lambda generator, _: modes.append(generator.training))
        step(0, inputs.stream(step.requests(0)))
        assert set(modes) == {not frozen}

    def test_each_update_of_a_density_ratio_draws_its_own_samples(self):
        """G says 1/2 of every label: where the noise is the same, so are the samples, whatever the images."""
        inputs = make_inputs(30)
        step = make_step(inputs, critic="nce", critic_steps=2, noise_samples=5, freeze_generator=True)
        with torch.no_grad():
            for parameter in step.generator.parameters():
                parameter.zero_()
        shown = []
        step.critic.register_forward_hook(lambda critic, args, scores: shown.append(args[0]))
        step(0, inputs.stream(step.requests(0)))
        first, second = (sets[:, 1:] for sets in shown)
        assert first.shape == (8, 5, L) and first.unique().tolist() == [0, 1]
        assert not torch.equal(first, second)

    def test_the_generator_s_loss_leaves_no_gradient_in_the_critic(self, monkeypatch):
        inputs = make_inputs(30)
        step = make_step(inputs)
        taken, optimizer_step = [], step.optimizer_d.step

        def remember():
            optimizer_step()
            taken.append({n: None if p.grad is None else p.grad.clone() for n, p in step.critic.named_parameters()})
            assert all(p.grad is None for p in step.generator.parameters())  # the critic's loss leaves none in G

        monkeypatch.setattr(step.optimizer_d, "step", remember)
        step(0, inputs.stream(step.requests(0)))
        assert len(taken) == 3
        for name, parameter in step.critic.named_parameters():
            assert (parameter.grad is None) == (taken[-1][name] is None)
            assert parameter.grad is None or torch.equal(parameter.grad, taken[-1][name])
        assert all(p.grad is not None for p in step.generator.parameters())

    @pytest.mark.parametrize("alpha", [10.0, 0.5])
    def test_the_losses_add_up_as_in_eqs_2_and_4(self, monkeypatch, alpha):
        updates, expected, pulls = [], [], []

        def no_update(optimizer, taken, told, world, max_norm):
            updates.append((optimizer, taken))
            return told

        def in_parts(optimizer, names, parts, world, max_norm):
            ((logits, values, gradient),) = parts
            pulls.append((logits.detach(), gradient))
            return no_update(optimizer, None, dict(zip(names, values, strict=True)), world, max_norm)

        monkeypatch.setattr(wasserstein, "update", no_update)
        monkeypatch.setattr(adversarial_step, "update_in_parts", in_parts)

        def plainly(critic, matched, generated, mismatched, between, lambda_gp, global_batch_size):
            loss = losses.critic_loss(critic(*matched), critic(*generated), critic(*mismatched))
            weight = torch.ones(len(between), 1)  # between is the one end of the line
            loss = loss + 7 * losses.gradient_penalty(critic, between, between, generated.z, weight)  # Eq. 4
            expected.append((loss, torch.autograd.grad(loss, list(critic.parameters()), materialize_grads=True)))
            return critic_update(critic, matched, generated, mismatched, between, lambda_gp, global_batch_size)

        monkeypatch.setattr(wasserstein, "critic_update", plainly)
        inputs = make_inputs(30)
        step = make_step(inputs, alpha=alpha, lambda_gp=7.0, critic_steps=2)
        told = step(0, inputs.stream(step.requests(0)))
        assert [optimizer for optimizer, _ in updates] == [step.optimizer_d] * 2 + [step.optimizer_g]
        for (_, taken), (_, gradients) in zip(updates, expected, strict=False):
            for mine, theirs in zip(taken, gradients, strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(told["critic"], expected[1][0].detach(), rtol=1e-5, atol=1e-6)
        ((logits, gradient),) = pulls  # Eq. 2 at G's logits: L_G's gradient, and alpha (p - y) / labels / images
        ((batch,),) = inputs.stream([[steps.generator_request(inputs, step.order, 0)]])
        by_labels = alpha * (torch.sigmoid(logits) - batch.y) / L / len(logits)
        leaf = logits.clone().requires_grad_()
        fake = losses.gumbel_sigmoid(leaf, uniform(leaf.shape, 0, "generator noise", 0), 0.9)
        (by_critic,) = torch.autograd.grad(-step.critic(fake, batch.x).mean(), leaf)
        torch.testing.assert_close(gradient, by_critic + by_labels)
        share = by_critic.norm() / (by_critic.norm() + by_labels.norm())
        torch.testing.assert_close(told["critic_share"], share)

    def test_a_step_depends_on_its_number_alone(self):
        inputs, results = make_inputs(30), []
        for global_seed in (0, 1):
            step = make_step(inputs)
            torch.manual_seed(global_seed)
            step(5, inputs.stream(step.requests(5)))
            results.append(checkpoint.pack("g", step.generator) | checkpoint.pack("d", step.critic))
        assert same(*results)
        step = make_step(inputs)
        step(6, inputs.stream(step.requests(6)))
        assert not same(results[0], checkpoint.pack("g", step.generator) | checkpoint.pack("d", step.critic))


class TestQuality:
    """How well a critic beside a frozen G does on val; here it is one that counts labels, D(y, x) = sum of y."""

    def make(self, weight, bias):
        """A step whose G gives every label the logit `weight` * x + `bias`, x being the sum of its six features."""
        step = make_step(make_inputs(8), critic="wgan-gp", freeze_generator=True)
        with torch.no_grad():
            step.generator.head[0].weight.fill_(weight)
            step.generator.head[0].bias.fill_(bias)
        self.shown = []

        def count(sets, z):
            self.shown.append(sets)
            return sets.sum(dim=2)

        step.critic = count
        return step

    def val(self, n=4):
        """`n` rows of six ones, with 2, 1, 2, 1, ... labels."""
        labels = np.array([[1, 1, 0, 0], [1, 0, 0, 0]] * (n // 2), dtype=np.int8)
        inputs = make_inputs(n, labels=labels)
        inputs.features = torch.ones_like(inputs.features)
        return inputs

    def test_is_the_mean_score_of_real_sets_over_that_of_samples(self):
        """Real sets have 1.5 labels. Samples have none of four where G denies them all, and four where it does not."""
        assert self.make(0.0, -99.0).quality(self.val()) == 1.5
        assert self.make(0.0, 99.0).quality(self.val()) == 1.5 - 4

    def test_g_is_asked_as_at_test_time(self):
        """100 * 6 - 500 > 0: each label is there. Of six features of which half are dropped and the rest doubled,
        two or fewer stay in 22 of 64 rows, and 200 * 2 - 500 < 0."""
        step = self.make(100.0, -500.0)
        step.generator.encoder = torch.nn.Dropout(0.5)
        step.generator.train()
        assert step.quality(self.val(64)) == 1.5 - 4

    def test_each_batch_of_val_draws_its_own_samples(self):
        """G says 1/2 of every label, and the two batches hold the same rows."""
        val = self.val()
        val.batch = 2
        self.make(0.0, 0.0).quality(val)
        first, second = self.shown
        assert first.shape == (2, 17, L) and torch.equal(first[:, 0], second[:, 0]), "a real set, and 16 samples"
        assert not torch.equal(first[:, 1:], second[:, 1:])

    def test_there_is_none_where_g_learns_too(self):
        assert make_step(make_inputs(8)).quality(self.val()) is None


class Interrupting:
    """A step that is interrupted before its update number `at`, or tells a loss that is not a number there."""

    def __init__(self, step, at, loss=None):
        self.step, self.at, self.loss = step, at, loss
        self.requests, self.networks, self.optimizers = step.requests, step.networks, step.optimizers
        self.quality, self.test_weights, self.order = step.quality, step.test_weights, step.order

    def __call__(self, step, batches):
        if step == self.at and self.loss is None:
            raise KeyboardInterrupt
        told = self.step(step, batches)
        return {**told, "logistic": torch.tensor(self.loss)} if step == self.at else told


class Prescribed(LogisticStep):
    """A step that leaves G's weight at what is prescribed, whatever the loss says."""

    weights = (-1.0, 1.0, -1.0)

    def __call__(self, step, batches):
        told = super().__call__(step, batches)
        torch.nn.init.constant_(self.generator.head[0].weight, self.weights[step])
        return told


STEPS, PER_EPOCH = 12, 2  # six evaluations


def train(folder, adversarial=True, interrupt=None, loss=None, patience=0, **changes):
    folder.mkdir(exist_ok=True)
    inputs, val = make_inputs(16, seed=0), make_inputs(40, seed=1)
    step = make_step(inputs, adversarial, **changes)
    running = step if interrupt is None else Interrupting(step, interrupt, loss)
    schedule = Schedule(STEPS, PER_EPOCH, patience)
    return fit(
        running, step.generator, inputs, val, schedule, folder, {"stage": "test", "full": False}, SilentReporter()
    )


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """An uninterrupted adversarial run."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


class TestFit:
    def test_evaluates_after_whole_epochs_and_at_the_end(self):
        assert Schedule(steps=100, steps_per_epoch=7, min_interval=50).interval == 56
        assert Schedule(steps=100, steps_per_epoch=70, min_interval=50).interval == 70
        assert Schedule(steps=100, steps_per_epoch=7).interval == 7

    def test_what_a_run_leaves(self, whole_run):
        assert sorted(path.name for path in whole_run.iterdir()) == sorted(FILES)
        records = [json.loads(line) for line in (whole_run / METRICS).read_text().splitlines()]
        assert [record["step"] for record in records] == [0, 2, 4, 6, 8, 10, 12]
        assert set(records[0]) == {"step", "val"}  # before any update
        told = {"critic", "penalty", "wasserstein", "critic_gradient", "generator", "logistic", "generator_gradient"}
        told |= {"critic_share"}
        assert set(records[1]) == {"step", "val"} | told
        result = json.loads((whole_run / RESULT).read_text())
        assert result["steps"] == 12 and not result["stopped_early"]
        best = max(records[1:], key=lambda record: record["val"]["mAP"])
        assert result["best_step"] == best["step"] == checkpoint.read_facts(whole_run / BEST)["step"]
        assert result["val"]["mAP"] == best["val"]["mAP"] > records[0]["val"]["mAP"]

    def test_best_has_the_confidences_of_val(self, whole_run):
        """40 rows; the facts of these tests name no critic, so labels are independent."""
        confidence = checkpoint.read_facts(whole_run / BEST)["confidence"]
        assert list(confidence) == ["threshold"]
        kept = confidence["threshold"]["val"]["p > 0.5"]
        assert kept["accepted"][-1] == 40
        assert kept["thresholds"] == sorted(kept["thresholds"], reverse=True)
        result = json.loads((whole_run / RESULT).read_text())
        assert kept["right"][-1] == round(0.4 * result["val"]["exact_match"])
        assert confidence["threshold"]["why"] is None
        assert 0.2 <= confidence["threshold"]["temperature"] <= 10

    def test_it_closes_with_the_best_evaluation(self, tmp_path):
        """Two rows of val, x = -1 without the label and x = 1 with it; G's weight is -1, then 1, then -1 again.

        1 ranks them right, and the threshold lies midway between sigmoid(1) and sigmoid(-1): at 1/2. -1 ranks them
        wrong: AP is 1/2, and the best threshold takes both, at sigmoid(-1) / 2 = 0.134.
        """
        x, y = np.array([[[-1.0]], [[1.0]]], dtype=np.float32), np.array([[0], [1]], dtype=np.int8)
        inputs = FeatureInputs(x, y, ["without", "with"], LabelSpace(("sea",)), (), CPU)
        generator = Generator(torch.nn.Identity(), seeded_head("linear", 1, 1, 0, seed=0))
        for parameter, value in zip(generator.parameters(), (-1.0, 0.0), strict=True):
            torch.nn.init.constant_(parameter, value)
        step = Prescribed(generator, inputs, make_config(lr=0.0, batch_size=2))
        state = fit(step, generator, inputs, inputs, Schedule(3, 1), tmp_path, {"stage": "test"}, SilentReporter())
        assert [record["val"]["mAP"] for record in state.history] == [50, 50, 100, 50]
        assert generator.head[0].weight.item() == 1.0, "not that of the last update"
        result = json.loads((tmp_path / RESULT).read_text())
        assert result["best_step"] == 2 and result["val"]["mAP"] == 100
        assert result["thresholds"] == {"tuned": pytest.approx(0.5), "tuned-per-label": [pytest.approx(0.5)]}

    def test_g_learns_in_training_mode_and_is_scored_out_of_it(self, tmp_path):
        inputs = make_inputs(16)
        step = make_step(inputs, adversarial=False)
        step.generator.eval()
        modes = []
        step.generator.register_forward_pre_hook(
            lambda generator, _: modes.append((torch.is_grad_enabled(), generator.training))
        )
        fit(step, step.generator, inputs, inputs, Schedule(4, 2), tmp_path, {"stage": "test"}, SilentReporter())
        learns, scored = (True, True), (False, False)
        of_confidences = scored
        assert modes == [scored, learns, learns, scored, learns, learns, scored, of_confidences]

    def test_the_same_command_in_another_folder_gives_the_same_bytes(self, whole_run, tmp_path):
        torch.manual_seed(99)
        train(tmp_path / "again")
        assert bytes_of(tmp_path / "again") == bytes_of(whole_run)

    @pytest.mark.parametrize("at", [1, 2, 5, 11])
    def test_interrupted_and_resumed_gives_the_same_bytes(self, whole_run, tmp_path, at):
        folder = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=at)
        assert (folder / LAST).exists() == (at >= 2) and not (folder / RESULT).exists()
        if at >= 2:
            assert checkpoint.read_facts(folder / LAST)["step"] == at // 2 * 2
        state = train(folder)
        assert state.step == 12 and bytes_of(folder) == bytes_of(whole_run)

    def test_interrupted_twice(self, whole_run, tmp_path):
        for at in (3, 9):
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "run", interrupt=at)
        train(tmp_path / "run")
        assert bytes_of(tmp_path / "run") == bytes_of(whole_run)

    def test_pretraining_too(self, tmp_path):
        train(tmp_path / "whole", adversarial=False)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", adversarial=False, interrupt=7)
        train(tmp_path / "run", adversarial=False)
        assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")

    @pytest.mark.parametrize("which", [1, 2])
    def test_a_kill_between_last_and_best(self, whole_run, tmp_path, monkeypatch, which):
        folder, save, bests = tmp_path / "run", checkpoint.save, []

        def killed(path, tensors, facts):
            if path.name == BEST:
                bests.append(facts["step"])
                if len(bests) == which:
                    raise KeyboardInterrupt
            save(path, tensors, facts)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", killed)
            with pytest.raises(KeyboardInterrupt):
                train(folder)
        assert checkpoint.read_facts(folder / LAST)["step"] == bests[-1]
        assert (folder / BEST).exists() == (which == 2)  # the older one, or none
        expected = tmp_path / "expected"
        with pytest.raises(KeyboardInterrupt):  # the same run, interrupted only after the whole evaluation
            train(expected, interrupt=bests[-1])
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=bests[-1])
        assert bytes_of(folder) == bytes_of(expected)
        train(folder)
        assert bytes_of(folder) == bytes_of(whole_run)

    def test_a_kill_between_best_and_metrics(self, whole_run, tmp_path, monkeypatch):
        def killed(path, text):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("labeldep_cli.training.state.write_text", killed)
            with pytest.raises(KeyboardInterrupt):
                train(tmp_path / "run")
        assert not (tmp_path / "run" / METRICS).exists()
        train(tmp_path / "run")
        assert bytes_of(tmp_path / "run") == bytes_of(whole_run)

    def test_lines_that_last_knows_nothing_of_are_cut(self, whole_run, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=5)
        kept = (folder / METRICS).read_text()
        (folder / METRICS).write_text(kept + '{"step": 6, "val": {}}\n{"st')
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=5)
        assert (folder / METRICS).read_text() == kept
        train(folder)
        assert bytes_of(folder) == bytes_of(whole_run)

    def test_a_broken_best_is_rebuilt_from_last_where_last_is_the_best(self, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(folder, adversarial=False, interrupt=2)  # after the first evaluation, the best so far
        before = bytes_of(folder)
        for content in (b"", before[BEST][:300]):
            (folder / BEST).write_bytes(content)
            with pytest.raises(KeyboardInterrupt):
                train(folder, adversarial=False, interrupt=2)
            assert bytes_of(folder) == before

    def test_a_lost_best_that_last_is_past_is_told(self, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(folder, adversarial=False, lr=0.0, interrupt=5)  # the best is at 2, `last` at 4
        (folder / BEST).unlink()
        with pytest.raises(CheckpointError) as caught:
            train(folder, adversarial=False, lr=0.0)
        assert f"{folder / BEST} is missing or broken" in caught.value.what and "--fresh" in caught.value.remedy

    def test_the_leftovers_of_a_killed_save_are_swept(self, whole_run, tmp_path):
        folder = tmp_path / "run"
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=5)
        names = set(bytes_of(folder))
        scratch = folder / ".checkpoint.writing"
        scratch.mkdir()
        (scratch / ".tmpA1b2C3").write_bytes(b"half a checkpoint")
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=5)
        assert {path.name for path in folder.iterdir()} == names
        train(folder)
        assert bytes_of(folder) == bytes_of(whole_run)

    def test_leftovers_without_last_are_dropped(self, whole_run, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(whole_run, folder)
        (folder / LAST).unlink()
        with pytest.raises(KeyboardInterrupt):
            train(folder, interrupt=1)
        assert bytes_of(folder) == {}

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_a_loss_that_is_not_finite_stops_the_run(self, tmp_path, value):
        with pytest.raises(TrainingError) as caught:
            train(tmp_path / "run", interrupt=4, loss=value)
        assert f"not finite at step 5 (logistic = {value})" in caught.value.what
        assert f"the last good checkpoint is {tmp_path / 'run' / LAST}" in caught.value.what
        assert "--lr" in caught.value.remedy
        assert checkpoint.read_facts(tmp_path / "run" / LAST)["step"] == 4

    def test_such_a_loss_before_the_first_checkpoint(self, tmp_path):
        with pytest.raises(TrainingError, match=r"at step 1 .*nothing was saved yet"):
            train(tmp_path / "run", interrupt=0, loss=float("nan"))

    def test_a_real_loss_that_explodes(self, tmp_path):
        with pytest.raises(TrainingError, match="not finite at step"):
            train(tmp_path / "run", critic_lr=1e15)

    def test_patience_ends_a_run_that_stands_still(self, tmp_path):
        state = train(tmp_path / "run", adversarial=False, lr=0.0, patience=2)
        assert state.stopped and state.step == 6  # the best is the first evaluation, at 2; then 4 and 6 are no better
        result = json.loads((tmp_path / "run" / RESULT).read_text())
        assert result["stopped_early"] and result["steps"] == 6 and result["best_step"] == 2
        before = bytes_of(tmp_path / "run")
        again = train(tmp_path / "run", adversarial=False, lr=0.0, patience=2)
        assert again.step == 6 and bytes_of(tmp_path / "run") == before

    def test_without_patience_it_goes_on(self, tmp_path):
        state = train(tmp_path / "run", adversarial=False, lr=0.0)
        assert not state.stopped and state.step == 12 and state.best["step"] == 2


class TestCheckpoint:
    def test_head_mode_stores_a_head_and_a_critic(self, whole_run):
        head = {"generator.head.0.weight", "generator.head.0.bias"}
        last, best = (checkpoint.load(whole_run / name)[0] for name in (LAST, BEST))
        assert {name for name in best if name.startswith("generator.")} == head
        assert {name.partition(".")[0] for name in best} == {"generator", "critic"}
        assert {name.partition(".")[0] for name in last} == {"generator", "critic", "optimizer_g", "optimizer_d"}
        assert last["optimizer_g.0.step"] == 12 and last["optimizer_d.0.step"] == 36

    def test_the_metadata_is_one_json_string(self, whole_run):
        for name in (LAST, BEST):
            with safe_open(whole_run / name, "pt") as file:
                metadata = file.metadata()
            assert list(metadata) == ["labeldep"] and json.loads(metadata["labeldep"])["stage"] == "test"

    def test_round_trip(self, tmp_path):
        tensors = {"a": torch.arange(6.0).view(2, 3).t(), "b": torch.zeros((), dtype=torch.int64)}
        checkpoint.save(tmp_path / "c.safetensors", tensors, {"labels": ["ä", "b"], "step": 3})
        stored, facts = checkpoint.load(tmp_path / "c.safetensors")
        assert same(stored, tensors) and facts == {"labels": ["ä", "b"], "step": 3}
        assert checkpoint.read_facts(tmp_path / "c.safetensors")["labels"] == ["ä", "b"]
        assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]

    def refused(self, path, match):
        with pytest.raises(CheckpointError, match=match) as caught:
            checkpoint.load(path)
        assert str(path) in caught.value.what and caught.value.remedy
        assert checkpoint.read_facts(path) == {}

    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_a_truncated_one(self, whole_run, tmp_path, share):
        content = (whole_run / LAST).read_bytes()
        (tmp_path / LAST).write_bytes(content[: int(share * len(content))])
        self.refused(tmp_path / LAST, r"is no labeldep checkpoint \(truncated or foreign\)")

    def test_a_foreign_one(self, tmp_path):
        save_file({"a": torch.zeros(2)}, tmp_path / LAST)
        self.refused(tmp_path / LAST, "is no labeldep checkpoint")
        save_file({"a": torch.zeros(2)}, tmp_path / LAST, {"labeldep": "no json"})
        self.refused(tmp_path / LAST, "is no labeldep checkpoint")
        (tmp_path / LAST).write_text("a text")
        self.refused(tmp_path / LAST, "is no labeldep checkpoint")

    def test_a_missing_one(self, tmp_path):
        self.refused(tmp_path / LAST, "there is no checkpoint")

    def test_one_of_another_format(self, tmp_path):
        save_file({"a": torch.zeros(2)}, tmp_path / LAST, {"labeldep": json.dumps({"format": 99})})
        with pytest.raises(CheckpointError, match="of another version of labeldep"):
            checkpoint.load(tmp_path / LAST)

    def test_one_of_another_kind(self, tmp_path):
        checkpoint.save(tmp_path / LAST, {"a": torch.zeros(2)}, {"labels": []})
        with pytest.raises(CheckpointError, match="of another kind: it has no step"):
            checkpoint.load(tmp_path / LAST, require_last)

    def test_a_truncated_last_stops_the_run_that_would_go_on_from_it(self, whole_run, tmp_path):
        folder = tmp_path / "run"
        shutil.copytree(whole_run, folder)
        (folder / LAST).write_bytes((whole_run / LAST).read_bytes()[:500])
        with pytest.raises(CheckpointError, match=str(folder / LAST)):
            train(folder)

    def test_a_network_of_another_shape_is_refused(self, whole_run):
        tensors, _ = checkpoint.load(whole_run / BEST)
        with pytest.raises(CheckpointError, match=r"does not fit this generator: size mismatch for head\.0"):
            checkpoint.unpack(
                "generator", tensors, Generator(torch.nn.Identity(), seeded_head("linear", F, 5, 0, 0)), whole_run
            )

    def test_an_optimizer_goes_on_as_if_never_stored(self):
        inputs = make_inputs(16)
        whole, resumed = make_step(inputs), make_step(inputs)
        batches = inputs.stream(whole.requests(0))
        whole(0, batches)
        for key, network in whole.networks().items():
            checkpoint.unpack(key, checkpoint.pack(key, network), resumed.networks()[key], LAST)
        for key, optimizer in whole.optimizers().items():
            stored = {name: value.clone() for name, value in checkpoint.pack_optimizer(key, optimizer).items()}
            checkpoint.unpack_optimizer(key, stored, resumed.optimizers()[key])
        whole(1, batches)
        resumed(1, inputs.stream(resumed.requests(1)))
        assert same(state_of(whole.generator), state_of(resumed.generator))
        assert same(state_of(whole.critic), state_of(resumed.critic))
