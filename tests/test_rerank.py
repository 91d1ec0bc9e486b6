"""The critic at test time: label sets weighed by p_G(y|x) exp(beta D(y, x))."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sandbox import Sandbox, make_table

from labeldep_cli.evaluation import rerank as room
from labeldep_cli.evaluation.candidates import most_probable_sets
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.rerank import BETAS, BUDGET, rerank, score_candidates, tune_beta
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.losses import density_ratio_loss


def every_set(n_labels):
    return torch.tensor(list(product([0.0, 1.0], repeat=n_labels)))


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pairs(bonus: float):
    """A critic that likes label 0 with label 1, and neither alone."""

    def score(y, z):
        return bonus * (2 * y[..., 0] - 1) * (2 * y[..., 1] - 1)

    return score


def random_critic(seed: int, n_labels: int):
    """A critic with a random weight for each label and each pair of labels, and a share of z."""
    couplings = drawn(n_labels, n_labels, seed=seed)

    def score(y, z):
        return torch.einsum("nki,ij,nkj->nk", y, couplings, y) + y.sum(dim=2) * z[:, :1]

    return score


class TestCandidates:
    def test_three_labels_by_hand(self):
        """Flips cost 1 (label 2), 2 (label 0) and 4 (label 1): none, 2, 0, both, 1."""
        logits = torch.tensor([[2.0, -4.0, 1.0]])
        found = most_probable_sets(logits, 5)[0].int().tolist()
        assert found == [[1, 0, 1], [1, 0, 0], [0, 0, 1], [0, 0, 0], [1, 1, 1]]

    @pytest.mark.parametrize(("n_labels", "count"), [(1, 32), (3, 8), (7, 1), (7, 2), (9, 32), (10, 200)])
    def test_they_are_the_best_of_all_sets(self, n_labels, count):
        logits = drawn(20, n_labels)
        found = most_probable_sets(logits, count)
        assert found.shape == (20, min(count, 2**n_labels), n_labels)
        value = (found.float() * logits[:, None]).sum(dim=2)
        wanted = (logits @ every_set(n_labels).T).topk(found.shape[1]).values
        torch.testing.assert_close(value, wanted)
        assert all(len(set(map(tuple, sets))) == len(sets) for sets in found.tolist())


class TestSearch:
    def test_company_tells(self):
        """p(0) = 0.9 and p(1) = 0.4: alone label 1 is out; with a critic that wants both or neither it is in.

        ln 9 + ln(2/3) + 1 = 2.79 beats ln 9 - 1 = 1.20 and 0 + 1 = 1.
        """
        logits = torch.tensor([[math.log(9), math.log(2 / 3)]])
        z = torch.zeros(1, 1)
        assert rerank(pairs(1.0), logits, z, 0.0).tolist() == [[True, False]]
        assert rerank(pairs(1.0), logits, z, 1.0).tolist() == [[True, True]]

    @pytest.mark.parametrize("n_labels", [1, 3, 8])
    @pytest.mark.parametrize("beta", [0.5, 2.0])
    def test_few_labels_are_searched_exactly(self, n_labels, beta):
        score = random_critic(0, n_labels)
        logits, z = drawn(20, n_labels), drawn(20, 2, seed=1)
        sets = every_set(n_labels)
        values = logits @ sets.T + beta * score(sets.expand(20, -1, -1), z)
        assert torch.equal(rerank(score, logits, z, beta), sets[values.argmax(dim=1)] > 0)

    def test_more_labels_are_found_as_often_as_the_budget_reaches(self):
        """With 14 labels 32 of 16,384 sets are tried: the best of all is among them more often than not."""
        score = random_critic(2, 14)
        logits, z = 3 * drawn(50, 14), drawn(50, 2, seed=1)
        sets = every_set(14)
        values = logits @ sets.T + 0.2 * score(sets.expand(50, -1, -1), z)
        found = rerank(score, logits, z, 0.2)
        assert (found == (sets[values.argmax(dim=1)] > 0)).all(dim=1).float().mean() > 0.8

    @pytest.mark.parametrize("n_labels", [9, 80])
    def test_no_image_costs_more_rows_than_the_budget(self, n_labels):
        rows = []

        def counting(y, z):
            assert y.shape[0] == z.shape[0]
            rows.append(y.shape[0] * y.shape[1])
            return -100 * y.sum(dim=2)

        rerank(counting, drawn(300, n_labels), drawn(300, 4), 1.0)
        assert sum(rows) == 300 * BUDGET == 300 * 32

    def test_rows_do_not_depend_on_the_size_of_a_pass(self, monkeypatch):
        score, logits, z = random_critic(3, 12), drawn(25, 12), drawn(25, 2)
        whole = rerank(score, logits, z, 1.0)
        monkeypatch.setattr(room, "BLOCK", 7 * BUDGET)
        assert torch.equal(rerank(score, logits, z, 1.0), whole)

    @pytest.mark.parametrize("conditional", [True, False])
    @pytest.mark.parametrize("layers", [0, 1, 3])
    def test_a_critic_scores_many_sets_of_an_image_as_it_does_one(self, layers, conditional):
        torch.manual_seed(0)
        critic = Discriminator(7, 11, layers, 16, 8, 0.2, conditional)
        y, z = (drawn(5, 4, 7) > 0).float(), drawn(5, 11)
        one_by_one = torch.stack([critic(y[:, k], z) for k in range(4)], dim=1)
        torch.testing.assert_close(critic(y, z), one_by_one)


class TestExpectedF1:
    def test_two_labels_that_exclude_each_other_are_both_taken(self):
        """Either alone expects F1 1/2, both 2/3 whichever is true."""
        sets = torch.tensor([[[True, False], [False, True]]])
        assert best_expected_f1(sets, torch.tensor([[0.5, 0.5]])).tolist() == [[True, True]]
        assert best_expected_f1(sets, torch.tensor([[0.9, 0.1]])).tolist() == [[True, False]], "0.9 beats 2/3"

    def test_the_empty_set_is_taken_where_it_is_likely(self):
        """Label 0 alone expects 0.4, nothing 0.6."""
        sets = torch.tensor([[[False, False], [True, False]]])
        assert best_expected_f1(sets, torch.tensor([[0.6, 0.4]])).tolist() == [[False, False]]
        assert best_expected_f1(torch.zeros(2, 1, 3, dtype=torch.bool), torch.ones(2, 1)).sum() == 0

    @pytest.mark.parametrize(("n_labels", "count"), [(1, 2), (3, 5), (5, 8), (6, 3)])
    def test_no_set_of_all_expects_more(self, n_labels, count):
        sets = drawn(30, count, n_labels) > 0.4
        weights = torch.softmax(2 * drawn(30, count, seed=1), dim=1)

        def expected(chosen):
            both, total = (chosen[:, None] & sets).sum(dim=2), chosen.sum(dim=1)[:, None] + sets.sum(dim=2)
            return (weights * torch.where(total > 0, 2 * both / total.clamp(min=1), 1.0)).sum(dim=1)

        every = [expected((one > 0).expand(30, -1)) for one in every_set(n_labels)]
        torch.testing.assert_close(expected(best_expected_f1(sets, weights)), torch.stack(every).max(dim=0).values)

    def test_labels_that_no_set_has_change_nothing(self):
        """Thousands of labels, of which an image's sets have a few, cost as much as these few."""
        sets, weights = drawn(30, 5, 6) > 0.4, torch.softmax(2 * drawn(30, 5, seed=1), dim=1)
        wide = torch.zeros(30, 5, 900, dtype=torch.bool)
        wide[:, :, 7:500:90] = sets
        found = best_expected_f1(wide, weights)
        assert torch.equal(found[:, 7:500:90], best_expected_f1(sets, weights))
        assert found.sum() == found[:, 7:500:90].sum()

    def test_weights_are_the_posterior_over_the_candidates(self):
        """p = 0.9 and 0.4 alone; a bonus of beta makes both or neither e^(2 beta) times likelier than one alone.

        Beta weighs the critic and not the prior: at 0 the posterior is the prior, .36 .54 .04 .06.
        """
        logits = torch.tensor([[math.log(9), math.log(2 / 3)]])
        found = score_candidates(pairs(1.0), logits, torch.zeros(1, 1))
        for beta in (0.0, 1.0, 2.0):
            e = math.exp(beta)
            joint = {(1, 1): 0.36 * e, (1, 0): 0.54 / e, (0, 1): 0.04 / e, (0, 0): 0.06 * e}
            wanted = [joint[tuple(one)] / sum(joint.values()) for one in found.own.sets[0].int().tolist()]
            assert found.posterior(beta).probabilities()[0].tolist() == pytest.approx(wanted, rel=1e-5)

    def test_sets_that_the_critic_does_not_see_keep_their_share_under_g(self, monkeypatch):
        monkeypatch.setattr(room, "candidate_count", lambda n_labels: 2)
        found = score_candidates(pairs(1.0), torch.tensor([[math.log(9), math.log(2 / 3)]]), torch.zeros(1, 1))
        for beta in (0.0, 1.0):
            assert found.posterior(beta).probabilities().sum().item() == pytest.approx(0.9, rel=1e-5)


class TestBeta:
    def test_a_critic_that_knows_gets_weight_and_one_that_misleads_gets_none(self):
        logits, z = torch.full((50, 2), 0.3), torch.zeros(50, 1)
        logits[:, 1] = -0.2
        both = torch.ones(50, 2, dtype=torch.int8)
        assert tune_beta(pairs(1.0), logits, z, both) == 0.25, "the smallest weight that does it"
        assert tune_beta(pairs(-1.0), logits, z, torch.tensor([[1, 0]] * 50)) == 0.0

    def test_theory_decides_where_val_cannot(self):
        """Of 100 images 52 are right with the critic and 48 without it: 4 images of 100 that differ are no evidence."""
        logits, z = torch.tensor([[0.3, -0.2]]).repeat(100, 1), torch.zeros(100, 1)
        labels = torch.tensor([[1, 1]] * 52 + [[1, 0]] * 48)
        assert tune_beta(pairs(1.0), logits, z, labels) == 0.25
        assert tune_beta(pairs(1.0), logits, z, labels, expected=1.0) == 1.0
        assert tune_beta(pairs(1.0), logits, z, 1 - labels[:, [1, 0]], expected=0.0) == 0.0
        labels[:30] = torch.tensor([1, 0])  # 22 against 78: now val knows that the critic misleads
        assert tune_beta(pairs(1.0), logits, z, labels, expected=1.0) == 0.0

    @pytest.mark.parametrize(("right", "beta"), [(58, 0.0), (60, 0.0), (61, 0.25)])
    def test_two_standard_errors_are_what_theory_is_given(self, right, beta):
        """Of 100 images that differ, the critic is right on 58, 60 or 61: ahead by 16, 20 or 22, and 2 sqrt(100) = 20.

        Theory says 0 here: it is left for the best, 0.25, where that is ahead by more.
        """
        logits, z = torch.tensor([[0.3, -0.2]]).repeat(100, 1), torch.zeros(100, 1)
        labels = torch.tensor([[1, 1]] * right + [[1, 0]] * (100 - right))
        assert tune_beta(pairs(1.0), logits, z, labels, expected=0.0) == beta

    def test_one_image_is_no_evidence(self):
        """Of 100 images one is right without the critic and none with it."""
        logits, z = torch.tensor([[0.3, -0.2]]).repeat(100, 1), torch.zeros(100, 1)
        labels = torch.tensor([[1, 0]] + [[0, 1]] * 99)
        assert tune_beta(pairs(1.0), logits, z, labels) == 0.0
        assert tune_beta(pairs(1.0), logits, z, labels, expected=1.0) == 1.0

    def test_unknown_labels_count_nowhere(self):
        logits, z = torch.tensor([[0.2, -0.2]]), torch.zeros(1, 1)
        assert tune_beta(pairs(1.0), logits, z, torch.tensor([[1, -1]])) == BETAS[0]
        # (1, 0) is chosen without the critic, (1, 1) with it: right in label 1, and of label 0 nothing is known.
        assert tune_beta(pairs(1.0), torch.tensor([[0.3, -0.2]]), z, torch.tensor([[-1, 1]])) == 0.25


class TestDensityRatio:
    def test_a_critic_that_tells_nothing_costs_ln_of_the_sets(self):
        assert float(density_ratio_loss(torch.zeros(3), torch.zeros(3, 4))) == pytest.approx(math.log(5))

    def test_scores_by_hand(self):
        """The real set scores ln 3, two samples 0: it is found with probability 3/5."""
        found = density_ratio_loss(torch.tensor([math.log(3)]), torch.zeros(1, 2))
        assert float(found) == pytest.approx(math.log(5 / 3))

    def test_a_constant_of_the_image_changes_nothing(self):
        real, fake, image = drawn(6), drawn(6, 3, seed=1), drawn(6, seed=2)
        torch.testing.assert_close(
            density_ratio_loss(real, fake), density_ratio_loss(real + image, fake + image[:, None])
        )

    def test_its_minimum_is_the_log_ratio(self):
        """Real sets are 1 with probability 0.8, samples with 0.5: D(1) - D(0) = ln 1.6 - ln 0.4 = ln 4.

        With one real set and two samples, all eight draws and their probabilities are listed.
        """
        scores = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([scores], 0.05)
        draws = torch.tensor(list(product([0, 1], repeat=3)))
        weight = torch.tensor([0.2, 0.8])[draws[:, 0]] / 4
        for _ in range(600):
            optimizer.zero_grad()
            each = [density_ratio_loss(scores[draw[:1]], scores[draw[None, 1:]]) for draw in draws]
            (torch.stack(each) * weight).sum().backward()
            optimizer.step()
        assert float((scores[1] - scores[0]).detach()) == pytest.approx(math.log(4), abs=1e-3)


@pytest.fixture(scope="module")
def exclusive(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Ready features that say nothing of which of two labels an instance has, only that it has exactly one.

    Independent sigmoids can only say 0.5 to either: every threshold gets 0 % or, by a tie, at most half of the sets.
    """
    sandbox = Sandbox(tmp_path_factory.mktemp("exclusive"))
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 2000)
    y = np.stack([first, 1 - first, first], axis=1).astype(np.int8)
    np.savez(
        sandbox.folder / "either.npz", X=rng.normal(size=(2000, 4)).astype(np.float32), Y=y, label_names=list("abc")
    )
    words = ("--dataset", sandbox.folder / "either.npz")
    sandbox.json("pretrain", *words, "--steps", 100)
    critic = ("--critic", "nce", "--freeze-generator", "--critic-layers", 1, "--critic-lr", 1e-3, "--steps", 300)
    sandbox.json("adversarial", *words, *critic)
    return sandbox


def test_a_dependency_that_no_threshold_can_see_is_found(exclusive: Sandbox) -> None:
    chosen = exclusive.json("eval", "--decision", "rerank")
    assert chosen["decision"]["rule"] == "rerank"
    assert chosen["decision"]["beta"] > 0
    assert chosen["decision"]["source"] == "tuned on val"
    assert 40 < chosen["exact_match"] < 60, "one of the two possible sets, right by chance half of the time"
    assert 1.0 <= chosen["labels_per_image"] <= 2.0
    singles = exclusive.json("eval")
    assert singles["exact_match"] < 35
    assert chosen["mAP"] == singles["mAP"], "the ranking of single labels is untouched"


def test_sets_for_who_counts_labels(exclusive: Sandbox) -> None:
    """{a, c} or {b}: of either set alone half are right, with F1 1/2; {a, b, c} has an F1 of 4/5 or 1/2."""
    found = exclusive.json("eval", "--decision", "expected-f1")
    assert found["decision"]["rule"] == "expected-f1"
    assert found["labels_per_image"] > 2.5
    assert found["OF1"] > exclusive.json("eval", "--decision", "rerank")["OF1"] + 5
    result = exclusive.run("eval", "--decision", "expected-f1")
    assert "critic, expected F1, beta" in result.stdout
    report = exclusive.json("dependency", "--decision", "expected-f1")
    assert report["decision"] == found["decision"]


def test_a_frozen_generator_stays_as_it_was(exclusive: Sandbox) -> None:
    from safetensors.torch import load_file

    runs = {
        path.name.rpartition("-")[2]: load_file(path / "best.safetensors") for path in exclusive.folder.glob("runs/*")
    }
    for name, value in runs["pretrain"].items():
        assert torch.equal(value, runs["critic"][name])
    records = [
        json.loads(line) for line in (exclusive.folder / "runs").glob("*-critic/metrics.jsonl").__next__().open()
    ]
    assert max(record["critic_val"] for record in records[1:]) > -math.log(17), "better than one that tells nothing"
    assert "penalty" not in records[-1]


def test_beta_by_hand_and_what_does_not_go_together(exclusive: Sandbox) -> None:
    assert (
        exclusive.json("eval", "--decision", "rerank", "--beta", 0)["exact_match"]
        == exclusive.json("eval")["exact_match"]
    )
    for words, told in (
        (("--decision", "rerank", "--top-k", 2), "takes no --threshold, --top-k or --non-empty"),
        (("--beta", 1), "--beta weighs the critic"),
        (("--decision", "expected-f1", "--non-empty"), "--decision expected-f1 takes no --threshold"),
    ):
        result = exclusive.run("eval", *words)
        assert result.exit_code == 1
        assert told in result.stderr
    pretrained = next((exclusive.folder / "runs").glob("*-pretrain")).name
    result = exclusive.run("eval", pretrained, "--decision", "rerank")
    assert result.exit_code == 1
    assert "has no critic" in result.stderr
    assert "--critic kernel" in result.stderr
    assert "--head powerset" in result.stderr


@pytest.mark.parametrize("full", [(), ("--full", "--batch-size", 4, "--workers", 0)])
def test_predict_reranks_images_in_both_modes(tmp_path: Path, full: tuple[object, ...]) -> None:
    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent, rows=30)
    words = ("--dataset", sandbox.table, "--backbone", "squeezenet1_1", "--weights", "none", "--steps", 2, *full)
    sandbox.json("pretrain", *words)
    run = sandbox.json("adversarial", *words, "--critic", "nce", "--freeze-generator", "--critic-layers", 1)["run"]
    image = sandbox.table.parent / "img" / "29.png"
    asked = ("predict", image, "--run", run, "--json", "--decision", "rerank", "--beta", 2)
    result = sandbox.run(*asked)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["path"] == str(image)
    scores = sandbox.json("eval", run, "--decision", "rerank", "--beta", 2)
    assert scores["n_images"] == 6
