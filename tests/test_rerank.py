"""The critic at test time: label sets searched for log p_G(y|x) + beta D(y, x)."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import Place, make_table

from labeldep_cli.evaluation import rerank as room
from labeldep_cli.evaluation.rerank import BETAS, rerank, tune_beta
from labeldep_cli.training.losses import density_ratio_loss


def pairs(bonus: float):
    """A critic that likes label 0 with label 1, and neither alone."""

    def score(y, z):
        return bonus * (2 * y[:, 0] - 1) * (2 * y[:, 1] - 1) + 0 * z[:, 0]

    return score


def random_critic(seed: int, n_labels: int):
    """A critic with a random weight for each label and each pair of labels, and a share of z."""
    generator = torch.Generator().manual_seed(seed)
    couplings = torch.randn(n_labels, n_labels, generator=generator)

    def score(y, z):
        return torch.einsum("bi,ij,bj->b", y, couplings, y) + (y.sum(dim=1) * z[:, 0])

    return score


def by_hand(score, logits, z, beta):
    """The best of all sets of one image, tried one by one."""
    best, found = -math.inf, None
    for y in product([0.0, 1.0], repeat=len(logits)):
        value = float(torch.tensor(y) @ logits + beta * score(torch.tensor([y]), z[None])[0])
        if value > best:
            best, found = value, y
    return torch.tensor(found) > 0, best


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
        logits, z = torch.randn(20, n_labels), torch.randn(20, 2)
        found = rerank(score, logits, z, beta)
        for row in range(20):
            assert torch.equal(found[row], by_hand(score, logits[row], z[row], beta)[0])

    def test_flips_end_where_no_flip_helps_and_never_below_the_start(self):
        score, beta = random_critic(1, 12), 0.7
        logits, z = torch.randn(30, 12), torch.randn(30, 2)

        def value(sets):
            y = sets.float()
            return (y * logits).sum(dim=1) + beta * score(y, z)

        found = rerank(score, logits, z, beta)
        assert (value(found) >= value(logits > 0) - 1e-5).all()
        for label in range(12):
            flipped = found.clone()
            flipped[:, label] = ~flipped[:, label]
            assert (value(flipped) <= value(found) + 1e-4).all()

    def test_flips_often_find_the_best_set(self):
        score, beta = random_critic(2, 9), 0.3
        logits, z = torch.randn(40, 9), torch.randn(40, 2)
        found = rerank(score, logits, z, beta)
        exact = [torch.equal(found[row], by_hand(score, logits[row], z[row], beta)[0]) for row in range(40)]
        assert np.mean(exact) > 0.7

    def test_rows_do_not_depend_on_the_size_of_a_pass(self, monkeypatch):
        score, logits, z = random_critic(3, 12), torch.randn(25, 12), torch.randn(25, 2)
        whole = rerank(score, logits, z, 1.0)
        monkeypatch.setattr(room, "_SCORED", 7)
        assert torch.equal(rerank(score, logits, z, 1.0), whole)

    def test_sure_labels_are_not_flipped(self, monkeypatch):
        monkeypatch.setattr(room, "CANDIDATES", 2)
        logits = torch.tensor([[5.0, 4.0, 0.1, -0.1, -4.0, -5.0, 6.0, 7.0, 8.0]])

        def against_all(y, z):
            return -100 * y.sum(dim=1)

        found = rerank(against_all, logits, torch.zeros(1, 1), 1.0)
        assert found.tolist() == [[True, True, False, False, False, False, True, True, True]]


class TestBeta:
    def test_a_critic_that_knows_gets_weight_and_one_that_misleads_gets_none(self):
        logits, z = torch.full((50, 2), 0.3), torch.zeros(50, 1)
        logits[:, 1] = -0.2
        both = torch.ones(50, 2, dtype=torch.int8)
        assert tune_beta(pairs(1.0), logits, z, both) == 0.25, "the smallest weight that does it"
        assert tune_beta(pairs(-1.0), logits, z, torch.tensor([[1, 0]] * 50)) == 0.0

    def test_unknown_labels_count_nowhere(self):
        logits, z = torch.tensor([[0.2, -0.2]]), torch.zeros(1, 1)
        assert tune_beta(pairs(1.0), logits, z, torch.tensor([[1, -1]])) == BETAS[0]


class TestDensityRatio:
    def test_a_critic_that_tells_nothing_costs_two_ln_two(self):
        assert float(density_ratio_loss(torch.zeros(3), torch.zeros(3))) == pytest.approx(2 * math.log(2))

    def test_its_minimum_is_the_log_ratio(self):
        """Real sets are 1 with probability 0.8, samples with 0.5: D(1) = ln 1.6 = 0.47, D(0) = ln 0.4 = -0.92."""
        scores = torch.zeros(2, requires_grad=True)
        optimizer = torch.optim.Adam([scores], 0.05)
        real, fake = torch.tensor([1] * 8 + [0] * 2), torch.tensor([1] * 5 + [0] * 5)
        for _ in range(600):
            optimizer.zero_grad()
            density_ratio_loss(scores[real], scores[fake]).backward()
            optimizer.step()
        assert scores.tolist() == pytest.approx([math.log(0.4), math.log(1.6)], abs=1e-3)


@pytest.fixture(scope="module")
def exclusive(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Ready features that say nothing of which of two labels an instance has, only that it has exactly one.

    Independent sigmoids can only say 0.5 to either: every threshold gets 0 % or, by a tie, at most half of the sets.
    """
    place = Place(tmp_path_factory.mktemp("exclusive"))
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 2000)
    y = np.stack([first, 1 - first, first], axis=1).astype(np.int8)
    np.savez(place.folder / "either.npz", X=rng.normal(size=(2000, 4)).astype(np.float32), Y=y, label_names=list("abc"))
    words = ("--dataset", place.folder / "either.npz")
    place.json("pretrain", *words, "--steps", 100)
    critic = ("--critic", "nce", "--freeze-generator", "--critic-layers", 1, "--critic-lr", 1e-3, "--steps", 300)
    place.json("adversarial", *words, *critic)
    return place


def test_a_dependency_that_no_threshold_can_see_is_found(exclusive: Place) -> None:
    chosen = exclusive.json("eval", "--decision", "rerank")
    assert chosen["decision"]["rule"] == "rerank"
    assert chosen["decision"]["beta"] > 0
    assert chosen["decision"]["source"] == "tuned on val"
    assert 40 < chosen["exact_match"] < 60, "one of the two possible sets, right by chance half of the time"
    assert 1.0 <= chosen["labels_per_image"] <= 2.0
    singles = exclusive.json("eval")
    assert singles["exact_match"] < 35
    assert chosen["mAP"] == singles["mAP"], "the ranking of single labels is untouched"


def test_a_frozen_generator_stays_as_it_was(exclusive: Place) -> None:
    from safetensors.torch import load_file

    runs = {
        path.name.rpartition("-")[2]: load_file(path / "best.safetensors") for path in exclusive.folder.glob("runs/*")
    }
    for name, value in runs["pretrain"].items():
        assert torch.equal(value, runs["critic"][name])
    records = [
        json.loads(line) for line in (exclusive.folder / "runs").glob("*-critic/metrics.jsonl").__next__().open()
    ]
    assert records[-1]["critic_val"] > -2 * math.log(2), "better than a critic that tells nothing"
    assert "penalty" not in records[-1]


def test_beta_by_hand_and_what_does_not_go_together(exclusive: Place) -> None:
    assert (
        exclusive.json("eval", "--decision", "rerank", "--beta", 0)["exact_match"]
        == exclusive.json("eval")["exact_match"]
    )
    for words, told in (
        (("--decision", "rerank", "--top-k", 2), "takes no --threshold, --top-k or --non-empty"),
        (("--beta", 1), "--beta weighs the critic"),
    ):
        result = exclusive.run("eval", *words)
        assert result.exit_code == 1
        assert told in result.stderr
    pretrained = next((exclusive.folder / "runs").glob("*-pretrain")).name
    result = exclusive.run("eval", pretrained, "--decision", "rerank")
    assert result.exit_code == 1
    assert "has no critic" in result.stderr
    assert "--critic nce --freeze-generator" in result.stderr


@pytest.mark.parametrize("full", [(), ("--full", "--batch-size", 4, "--workers", 0)])
def test_predict_reranks_images_in_both_modes(tmp_path: Path, full: tuple[object, ...]) -> None:
    place = Place(tmp_path)
    make_table(place.table.parent, rows=30)
    words = ("--dataset", place.table, "--backbone", "squeezenet1_1", "--weights", "none", "--steps", 2, *full)
    place.json("pretrain", *words)
    run = place.json("adversarial", *words, "--critic", "nce", "--freeze-generator", "--critic-layers", 1)["run"]
    image = place.table.parent / "img" / "29.png"
    asked = ("predict", image, "--run", run, "--json", "--decision", "rerank", "--beta", 2)
    result = place.run(*asked)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["path"] == str(image)
    scores = place.json("eval", run, "--decision", "rerank", "--beta", 2)
    assert scores["n_images"] == 6
