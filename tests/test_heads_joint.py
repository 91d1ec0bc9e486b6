"""The heads that are distributions over label sets: powerset and chain, against enumeration and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from torch import Tensor, nn

from labeldep_cli.config import AdversarialConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.evaluation.decisions import ByCritic, ByOwnPosterior, Outputs
from labeldep_cli.evaluation.posterior import SetPosterior
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models import known_sets
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads import powerset
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.chain import LABEL_SCALE, ChainHead
from labeldep_cli.models.heads.powerset import PowersetHead
from labeldep_cli.models.heads.registry import HEADS, seeded_head
from labeldep_cli.training.adversarial_step import AdversarialStep

F, L = 5, 4
JOINT = sorted(kind for kind in HEADS if HEADS[kind].joint)
ALL = torch.tensor(list(itertools.product([0, 1], repeat=L))).bool()  # [16, L]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def head_over_all_sets(kind: str, hidden: int = 0) -> Head:
    """A head with random weights that has seen every set of four labels; label 2 most often."""
    head = seeded_head(kind, F, L, hidden, seed=0)
    head.fit_to_labels(torch.cat([ALL, ALL[ALL[:, 2]]]).to(torch.int8))
    with torch.no_grad():
        for number, parameter in enumerate(head.parameters()):
            parameter.copy_(drawn(*parameter.shape, seed=number))
    return head


def log_p_of_all(head: Head, x: Tensor) -> Tensor:
    """Log p(y|x) of all 16 sets, [B, 16]."""
    return log_p_of(head, x, ALL.expand(len(x), -1, -1))


def log_p_of(head: Head, x: Tensor, sets: Tensor) -> Tensor:
    """Log p(y|x) of sets [B, K, L], by the loss of one set at a time: [B, K]."""
    losses = [head.set_loss(x[row, None], one[None].to(x.dtype)) for row in range(len(x)) for one in sets[row]]
    return -torch.stack(losses).view(sets.shape[:2]).detach()


def test_there_are_two():
    assert JOINT == ["chain", "powerset"]


@pytest.mark.parametrize("hidden", [0, 7])
@pytest.mark.parametrize("kind", JOINT)
class TestJointHeads:
    def test_the_probabilities_of_all_sets_sum_to_one(self, kind, hidden):
        assert log_p_of_all(head_over_all_sets(kind, hidden), drawn(6, F)).exp().sum(dim=1).tolist() == pytest.approx(
            [1] * 6, abs=1e-5
        )

    def test_the_posterior_over_all_sets_is_the_enumeration(self, kind, hidden):
        head, x = head_over_all_sets(kind, hidden), drawn(6, F)
        sets, log_p = head.posterior(x, 16)
        assert sets.shape == (6, 16, L) and sets.dtype == torch.bool
        every = log_p_of_all(head, x)
        torch.testing.assert_close(log_p, every.sort(dim=1, descending=True).values, atol=1e-5, rtol=1e-5)
        assert torch.equal(sets[:, 0], ALL[every.argmax(dim=1)])
        torch.testing.assert_close(log_p_of(head, x, sets), log_p.detach(), atol=1e-5, rtol=1e-5)

    def test_a_count_of_three_gives_the_three_most_probable_sets(self, kind, hidden):
        head, x = head_over_all_sets(kind, hidden), drawn(6, F)
        sets, log_p = head.posterior(x, 3)
        assert torch.equal(sets, ALL[log_p_of_all(head, x).topk(3, dim=1).indices])
        assert log_p.exp().sum(dim=1).max() < 1

    def test_the_logits_are_those_of_the_marginals(self, kind, hidden):
        """The chain's beam of 15 misses only the least probable set of 16."""
        head, x = head_over_all_sets(kind, hidden), drawn(6, F)
        p = log_p_of_all(head, x).exp() @ ALL.float()
        assert head(x).sigmoid().detach().numpy() == pytest.approx(p.numpy(), abs=1e-3 if kind == "chain" else 1e-5)

    def test_the_loss_is_the_mean_over_images(self, kind, hidden):
        head, x, y = head_over_all_sets(kind, hidden), drawn(16, F), ALL.float()
        assert head.set_loss(x, y).item() == pytest.approx(-log_p_of(head, x, ALL[:, None]).mean().item(), rel=1e-5)

    def test_samples_have_the_frequencies_of_the_distribution(self, kind, hidden):
        """10,000 samples: a standard error is at most half a point."""
        head, x = head_over_all_sets(kind, hidden), drawn(1, F)
        found = head.sample(x, uniform(1, 10_000, L))
        assert found.shape == (1, 10_000, L) and found.dtype == torch.bool
        codes = (found[0].long() * torch.tensor([8, 4, 2, 1])).sum(dim=1)
        frequencies = codes.bincount(minlength=16) / 10_000
        assert frequencies.numpy() == pytest.approx(log_p_of_all(head, x)[0].exp().numpy(), abs=0.025)
        assert torch.equal(head.sample(x, uniform(1, 10_000, L)), found)

    def test_labels_that_are_all_unknown_cost_nothing(self, kind, hidden):
        assert head_over_all_sets(kind, hidden).set_loss(drawn(3, F), -torch.ones(3, L)).item() == 0


def own_part_alone(labels: Tensor, weight: Tensor, bias: Tensor) -> PowersetHead:
    """A powerset head without the part that sets share."""
    head = PowersetHead(weight.shape[1], labels.shape[1])
    head.fit_to_labels(labels.to(torch.int8))
    with torch.no_grad():
        for parameter in head.by_label.parameters():
            parameter.zero_()
        head.own_weight.copy_(weight)
        head.own_bias.copy_(bias)
    return head.double()


class TestPowersetHead:
    def test_its_own_part_is_multinomial_logistic_regression(self):
        """At scikit-learn's optimum the loss, the gradient of the L2 objective and the probabilities are the same."""
        x = drawn(200, F).double()
        y = (x[:, :3] + drawn(200, 3, seed=1) > 0).to(torch.int8)
        codes = (y.long() * torch.tensor([4, 2, 1])).sum(dim=1)
        peer = LogisticRegression(C=0.3, tol=1e-10, max_iter=10_000).fit(x.numpy(), codes.numpy())
        head = own_part_alone(y, torch.zeros(8, F), torch.zeros(8))
        place = (head.sets.long() * torch.tensor([4, 2, 1])).sum(dim=1)  # the code of each kept set
        with torch.no_grad():
            head.own_weight.copy_(torch.from_numpy(peer.coef_)[place])
            head.own_bias.copy_(torch.from_numpy(peer.intercept_)[place])
        log_p = log_p_of(head, x, head.sets.expand(200, -1, -1))
        assert log_p.numpy() == pytest.approx(peer.predict_log_proba(x.numpy())[:, place.numpy()], abs=1e-8)
        objective = 0.3 * 200 * head.set_loss(x, y.double()) + head.own_weight.square().sum() / 2
        gradient, of_bias = torch.autograd.grad(objective, [head.own_weight, head.own_bias])
        assert gradient.abs().max() < 1e-4 and of_bias.abs().max() < 1e-4

    def test_sets_are_kept_from_frequent_to_rare_and_only_complete_rows_count(self):
        labels = torch.tensor([[0, 1], [1, 1], [1, 1], [-1, 0], [0, 1], [1, 1]], dtype=torch.int8)
        head = PowersetHead(F, 2)
        head.fit_to_labels(labels)
        assert head.sets.tolist() == [[True, True], [False, True]]

    def test_without_a_complete_row_unknown_counts_as_absent(self):
        head = PowersetHead(F, 2)
        head.fit_to_labels(torch.tensor([[-1, 1], [1, -1], [-1, 1]], dtype=torch.int8))
        assert head.sets.tolist() == [[False, True], [True, False]]

    def test_probabilities_by_hand(self):
        """Kept: {a} three times as probable as {b}. So p(a) = 3/4, and the logit of a is log 3."""
        head = own_part_alone(torch.tensor([[1, 0], [1, 0], [0, 1]]), torch.zeros(2, F), torch.tensor([math.log(3), 0]))
        x = drawn(1, F).double()
        assert head(x)[0].tolist() == pytest.approx([math.log(3), -math.log(3)])
        assert head.set_loss(x, torch.tensor([[1.0, 0]]).double()).item() == pytest.approx(-math.log(3 / 4))
        assert head.sample(x, torch.tensor([[[0.7, 0], [0.8, 0]]])).tolist() == [[[True, False], [False, True]]]

    def test_with_an_unknown_label_the_loss_sums_over_the_sets_that_agree(self):
        """{}, {a}, {a, b} with 1/4, 1/4, 1/2: a known alone gives 3/4, b absent 1/2."""
        labels = torch.tensor([[1, 1], [1, 1], [0, 0], [1, 0]])
        head = own_part_alone(labels, torch.zeros(3, F), torch.tensor([math.log(2), 0, 0]))
        x = drawn(1, F).double()
        for y, p in (([1.0, -1], 3 / 4), ([-1.0, 0], 1 / 2), ([1.0, 1], 1 / 2)):
            assert head.set_loss(x, torch.tensor([y]).double()).item() == pytest.approx(-math.log(p))

    def test_a_set_that_is_not_kept_trains_and_is_scored_by_its_labels(self):
        """Kept: {a}, {b}, all scores 0 but u_a = u_b = log 2: {a, b} scores log 4 beside two sets of log 2."""
        head = own_part_alone(torch.tensor([[1, 0], [0, 1]]), torch.zeros(2, F), torch.zeros(2))
        with torch.no_grad():
            head.by_label.bias.fill_(math.log(2))
        x = drawn(1, F).double()
        assert head.set_loss(x, torch.tensor([[1.0, 1]]).double()).item() == pytest.approx(-math.log(4 / 8))
        assert head.set_loss(x, torch.tensor([[1.0, 0]]).double()).item() == pytest.approx(-math.log(2 / 4))
        gradient = torch.autograd.grad(head.set_loss(x, torch.tensor([[1.0, 1]]).double()), head.by_label.bias)[0]
        assert gradient.tolist() == pytest.approx([-0.25, -0.25]), "1/4 + 1/2 of the sets have a, the true one does"

    def test_a_label_of_every_set_or_of_none_has_a_finite_logit(self):
        head = own_part_alone(torch.tensor([[1, 0, 0], [1, 1, 0]]), torch.zeros(2, F), torch.zeros(2)).float()
        always, sometimes, never = head(drawn(1, F))[0].tolist()
        assert 600 < always < math.inf and sometimes == pytest.approx(0) and never == -always

    @pytest.mark.parametrize("count", [1, 3, 256, 257, 700])
    def test_cumulative_sums_are_those_of_any_number_of_sets(self, count):
        p = uniform(2, count).double()
        assert powerset._cumulative(p).numpy() == pytest.approx(p.numpy().cumsum(axis=1))

    def test_only_the_most_frequent_sets_are_kept(self, monkeypatch):
        monkeypatch.setattr(known_sets, "MOST_SETS", 2)
        head = PowersetHead(F, 2)
        head.fit_to_labels(torch.tensor([[0, 0], [1, 0], [1, 0], [1, 1], [1, 1], [1, 1]], dtype=torch.int8))
        assert head.sets.tolist() == [[True, True], [True, False]]

    def test_a_checkpoint_with_another_number_of_labels_is_refused(self):
        with pytest.raises(RuntimeError, match="size mismatch"):
            PowersetHead(F, 2).load_state_dict(PowersetHead(F, 3).state_dict())


class TestChainHead:
    def test_it_is_scikit_learn_s_chain(self):
        """With the weights that scikit-learn found: the same likelihood of every label, given the true ones before."""
        x = drawn(150, F)
        y = (x[:, :L] + drawn(150, L, seed=1) + torch.tensor([0, 0.5, 1, 0.2]) > 0).long()
        y[:, 3] = y[:, 0] * y[:, 1]
        head = ChainHead(F, L)
        head.fit_to_labels(y.to(torch.int8))
        order = head.order.tolist()
        assert order == sorted(range(L), key=lambda label: -int(y[:, label].sum())) and order != [0, 1, 2, 3]
        peer = ClassifierChain(LogisticRegression(C=1.0), order=order).fit(x.numpy(), y.numpy())
        expected = 0.0
        with torch.no_grad():
            for place, (label, link) in enumerate(zip(order, peer.estimators_, strict=True)):
                weights = torch.from_numpy(link.coef_[0]).float()
                head.by_label.weight[label] = weights[:F]
                head.by_label.bias[label] = float(link.intercept_[0])
                head.on_labels[label, order[:place]] = weights[F:] / LABEL_SCALE
                seen = np.hstack([x.numpy(), y[:, order[:place]].numpy()])
                expected -= link.predict_log_proba(seen)[np.arange(150), y[:, label].numpy()].mean()
        assert float(head.set_loss(x, y.float()).detach()) == pytest.approx(expected, rel=1e-5)

    def test_a_label_reads_only_those_before_it(self):
        """The order is 2, 0, 1, 3. Label 0 reads label 2; weights on itself and on later labels do nothing."""
        head = head_over_all_sets("chain")
        assert head.order.tolist() == [2, 0, 1, 3]
        x = drawn(1, F)
        before = log_p_of_all(head, x)
        with torch.no_grad():
            head.on_labels[0, 0] += 1
            head.on_labels[0, 1] += 1
        assert torch.equal(log_p_of_all(head, x), before)
        with torch.no_grad():
            head.on_labels[0, 2] += 1
        assert not torch.equal(log_p_of_all(head, x), before)

    def test_an_unknown_label_has_no_loss_and_counts_as_absent_afterwards(self):
        head, x = head_over_all_sets("chain"), drawn(1, F)
        u, v = head.by_label(x)[0], LABEL_SCALE * head.on_labels
        unknown = torch.tensor([[1.0, 0, -1, 0]])
        p_1, p_3 = (torch.sigmoid(u[label] + v[label, 0]).item() for label in (1, 3))
        expected = -math.log(torch.sigmoid(u[0]).item()) - math.log(1 - p_1) - math.log(1 - p_3)
        assert head.set_loss(x, unknown).item() == pytest.approx(expected, rel=1e-4)

    def test_labels_that_depend_on_nothing_have_their_own_marginals(self):
        """Eight labels, a beam of 15: also for those that are in no set of it."""
        head = ChainHead(F, 8)
        with torch.no_grad():
            head.by_label.weight.zero_()
            head.by_label.bias.copy_(torch.linspace(-9, -2, 8))
        assert head(drawn(1, F))[0].tolist() == pytest.approx(torch.linspace(-9, -2, 8).tolist(), rel=1e-5)

    def test_a_narrow_beam_can_miss_what_a_wide_one_finds(self):
        """p(a) = 0.6, b and c are sure only without a: the best set is {b, c} with 0.4, not {a} with 0.15."""
        head = ChainHead(1, 3)
        with torch.no_grad():
            head.by_label.weight.zero_()
            head.by_label.bias.copy_(torch.tensor([math.log(1.5), 20, 20]))
            head.on_labels[1:, 0] = -2.0
        sets, log_p = head.posterior(torch.zeros(1, 1), 8)
        assert sets[0, 0].tolist() == [False, True, True] and log_p[0, 0].exp().item() == pytest.approx(0.4)
        assert sorted(log_p[0, 1:5].exp().tolist()) == pytest.approx([0.15] * 4)


def test_a_critic_learns_from_the_sets_that_the_head_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """The head knows {a} and {b} only: no sample is empty or has both, as half of those of independent labels would."""
    labels = np.tile(np.eye(2, dtype=np.int8), (20, 1))
    inputs = FeatureInputs(
        drawn(40, 1, F).numpy(), labels, [str(k) for k in range(40)], LabelSpace(("a", "b")), (), torch.device("cpu")
    )
    head = seeded_head("powerset", F, 2, 0, seed=0)
    head.fit_to_labels(torch.from_numpy(labels))
    config = AdversarialConfig(critic="nce", freeze_generator=True, batch_size=16, noise_samples=5)
    critic = Discriminator(2, F, width=8, projection=4, layers=1, slope=0.2)
    step = AdversarialStep(Generator(nn.Identity(), head), critic, inputs, config)
    seen: list[Tensor] = []
    forward = critic.forward
    monkeypatch.setattr(critic, "forward", lambda sets, z: (seen.append(sets), forward(sets, z))[1])
    step(0, inputs.stream(step.requests(0)))
    step.quality(inputs)
    assert {sets.shape[1] for sets in seen} == {6, 17}
    assert all(sets.sum(dim=2).eq(1).all() for sets in seen)
    assert all(0.2 < sets[:, 1:, 0].mean() < 0.8 for sets in seen)


def opposites() -> tuple[Outputs, SetPosterior]:
    """{a} and {b} with 0.4 each, {} with 0.2: every label alone is absent, and {} is the least probable set."""
    sets = torch.tensor([[[True, False], [False, True], [False, False]]])
    own = SetPosterior(sets, torch.tensor([[0.4, 0.4, 0.2]]).log(), torch.tensor([-math.inf]))
    logits = np.full((1, 2), math.log(2 / 3), dtype=np.float32)
    return Outputs(logits, lambda: torch.zeros(1, 1), lambda count: own), own


class TestDecisions:
    def test_the_head_s_own_sets_are_chosen_from(self):
        outputs, _ = opposites()
        decided = ByOwnPosterior().decide(outputs)
        assert decided.sets.tolist() == [[True, False]]
        assert decided.confidence.tolist() == pytest.approx([0.4])

    def test_expected_f1_weighs_them(self):
        """{a, b} has 0.8 x 2/3 = 0.53, {a} 0.4."""
        outputs, _ = opposites()
        assert ByOwnPosterior("expected-f1").decide(outputs).sets.tolist() == [[True, True]]

    def test_a_critic_scores_the_head_s_sets_and_no_others(self):
        """D adds 1 for b: {b} wins. {a, b} would have more, but the head never proposes it."""

        def critic(sets: Tensor, z: Tensor) -> Tensor:
            return sets[:, :, 1] + 5.0 * sets.prod(dim=2)

        outputs, _ = opposites()
        assert ByCritic(critic, 1.0, "given").decide(outputs).sets.tolist() == [[False, True]]

    def test_other_heads_cannot_decide_alone(self):
        with pytest.raises(ValueError, match="not those of a joint head"):
            ByOwnPosterior().decide(Outputs(np.zeros((1, 2), np.float32), lambda: torch.zeros(1, 1)))


class TestStartFromShares:
    """Standardised features have the mean 0, so only the biases can say how frequent a label or a set is."""

    LABELS = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 1], [-1, 0]], dtype=torch.int8)

    def test_a_powerset_starts_with_the_shares_of_its_sets(self) -> None:
        head = PowersetHead(3, 2)
        head.fit_to_labels(self.LABELS)
        head.start_from_shares(self.LABELS)
        sets, log_p = head.posterior(torch.zeros(1, 3), 3)
        shares = {tuple(one): p for one, p in zip(sets[0].tolist(), log_p[0].exp().tolist(), strict=True)}
        assert shares[True, False] == pytest.approx(2 / 4)
        assert shares[True, True] == pytest.approx(1 / 4)

    def test_a_chain_starts_with_the_odds_of_its_labels(self) -> None:
        head = ChainHead(3, 2)
        head.fit_to_labels(self.LABELS)
        head.start_from_shares(self.LABELS)
        p = torch.sigmoid(head(torch.zeros(1, 3)))[0].tolist()
        assert p == pytest.approx([3.5 / 5, 2.5 / 6], abs=1e-5), "3 of 4 known, 2 of 5, half a row added to each side"
