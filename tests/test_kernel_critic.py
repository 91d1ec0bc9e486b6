"""A critic that compares images with those of train: its kernel, its likelihood, its candidates, its runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from sandbox import Sandbox, only
from sklearn.linear_model import LogisticRegression

from labeldep_cli.compute.distributed import ALONE
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.evaluation import decisions
from labeldep_cli.evaluation import known_sets as known_sets_module
from labeldep_cli.evaluation.known_sets import Weights, pool_weights, pooled_posterior
from labeldep_cli.inputs.batches import Batch
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.kernel_critic import (
    LABEL_WEIGHT,
    SET_WEIGHT,
    UNSEEN_COUNT,
    KernelCritic,
    image_kernel,
)
from labeldep_cli.models.known_sets import known_sets
from labeldep_cli.models.standardizing import Moments
from labeldep_cli.training.kernel_step import KernelStep, log_likelihood, rate


def critic_of(labels: list[list[int]], z: torch.Tensor) -> KernelCritic:
    """A critic that knows some sets; its weights are zero."""
    moments = Moments(torch.zeros(z.shape[1]), torch.ones(z.shape[1]))
    return KernelCritic.fitted(torch.tensor(labels, dtype=torch.int8), moments, z)


class TestImageKernel:
    def test_by_hand(self) -> None:
        a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
        wanted = 0.4 * math.exp(-3 / 2) + 0.4 * math.exp(-5 / 2) + 0.0
        assert image_kernel(a, b).item() == pytest.approx(wanted, rel=1e-5)
        assert image_kernel(b, b).item() == pytest.approx(0.4 + 0.4 + 0.2 * 4 / 2, rel=1e-5)

    def test_products_of_similarities_are_the_kernel_at_the_landmarks(self) -> None:
        z = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
        near = critic_of([[0, 1]], z).similarities(z)
        torch.testing.assert_close(near[:, :-1] @ near[:, :-1].T, image_kernel(z, z), atol=2e-3, rtol=0)

    def test_a_feature_that_is_constant_in_train_counts_in_its_own_unit(self) -> None:
        """0.3 is no float32: a difference of two large sums would take its rounding for a deviation."""
        x = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
        x[:, 0] = 0.3
        y = (x[:, 1:] > 0).astype(np.int8)
        config = AdversarialConfig(critic="kernel").resolved()
        step = KernelStep.of(
            Generator(torch.nn.Identity(), seeded_head("linear", 2, 1, 0, seed=0)),
            FeatureInputs(x[:, None], y, [str(k) for k in range(3000)], LabelSpace(("a",)), (), torch.device("cpu")),
            config,
            steps=10,
            world=ALONE,
        )
        seen = step.critic.standardized(torch.tensor([[0.3, 0.0], [0.8, 0.0]]))
        assert seen[:, 0].tolist() == pytest.approx([0, 0.5], abs=1e-6)


class TestKnownSets:
    def test_the_most_frequent_set_is_first_and_incomplete_rows_are_left_out(self) -> None:
        sets, counts = known_sets(torch.tensor([[0, 1], [1, 1], [1, 1], [-1, 0]], dtype=torch.int8))
        assert sets.tolist() == [[True, True], [False, True]]
        assert counts.tolist() == [2, 1]

    def test_if_no_row_is_complete_unknown_labels_count_as_absent(self) -> None:
        sets, _ = known_sets(torch.tensor([[1, -1], [-1, 1]], dtype=torch.int8))
        assert sorted(sets.tolist()) == [[False, True], [True, False]]

    def test_every_known_set_is_found_and_no_other(self) -> None:
        generator = torch.Generator().manual_seed(1)
        labels = (torch.rand(500, 12, generator=generator) < 0.3).to(torch.int8)
        critic = critic_of(labels.tolist(), torch.randn(3, 2, generator=generator))
        assert critic.lookup(critic.sets).tolist() == list(range(len(critic.sets)))
        known = {tuple(row) for row in critic.sets.tolist()}
        others = torch.rand(500, 12, generator=generator) < 0.5
        found = critic.lookup(others) < len(critic.sets)
        assert found.tolist() == [tuple(row) in known for row in others.tolist()]


class TestScores:
    def test_without_weights_a_known_set_has_its_log_count_and_any_other_a_small_one(self) -> None:
        critic = critic_of([[1, 0], [1, 0], [0, 1]], torch.zeros(1, 2))
        scores = critic(torch.tensor([[[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]]), torch.zeros(1, 2))
        assert scores[0].tolist() == pytest.approx([math.log(2), 0.0, math.log(UNSEEN_COUNT)])

    def test_both_parts_by_hand_and_the_three_ways_to_ask_agree(self) -> None:
        z = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
        critic = critic_of([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [1, 1]], z)
        assert critic.set_weights.shape[1] == 2, "the set that occurs once has no weights of its own"
        with torch.no_grad():
            critic.label_weights.normal_(generator=torch.Generator().manual_seed(3))
            critic.set_weights.normal_(generator=torch.Generator().manual_seed(4))
        near = critic.similarities(z)
        wanted = (
            LABEL_WEIGHT * near @ (critic.label_weights @ torch.tensor([-1.0, 1.0]))
            + SET_WEIGHT * near @ critic.set_weights[:, 0]
            + math.log(3)
        )
        torch.testing.assert_close(critic.score_known(near)[:, 0], wanted)
        many = critic.sets.float().expand(6, 3, 2)
        torch.testing.assert_close(critic(many, z), critic.score_known(near))
        torch.testing.assert_close(critic(critic.sets[2].float().expand(6, 2), z), critic.score_known(near)[:, 2])


class TestLikelihood:
    def critic(self) -> KernelCritic:
        return critic_of([[1, 0], [1, 0], [0, 1], [1, 1]], torch.zeros(1, 2))

    def of(self, *labels: int) -> float:
        critic = self.critic()
        near = critic.similarities(torch.zeros(1, 2))
        return log_likelihood(critic, torch.tensor([labels], dtype=torch.float32), near).exp().item()

    def test_of_known_sets_it_is_their_share(self) -> None:
        assert self.of(1, 0) == pytest.approx(2 / 4)
        assert self.of(1, 1) == pytest.approx(1 / 4)

    def test_a_set_that_is_not_known_competes_with_the_known_ones(self) -> None:
        assert self.of(0, 0) == pytest.approx(UNSEEN_COUNT / (4 + UNSEEN_COUNT))

    def test_unknown_labels_are_summed_over(self) -> None:
        assert self.of(1, -1) == pytest.approx(3 / 4), "10 twice and 11 once"
        assert self.of(-1, -1) == pytest.approx(1)
        assert self.of(-1, 1) == pytest.approx(2 / 4)

    def test_its_maximum_is_that_of_scikit_learns_multinomial_regression(self) -> None:
        """With weights for each set and no shared part, it is multinomial regression on the similarities."""
        generator = torch.Generator().manual_seed(5)
        z = torch.randn(60, 3, generator=generator)
        y = torch.stack([z[:, 0] > 0, z[:, 1] + z[:, 0] > 0.3], dim=1).to(torch.int8)
        critic = critic_of(y.tolist(), z[:20])
        near = critic.similarities(z)
        numbers = critic.lookup(y.bool())
        theirs = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-8, max_iter=5000).fit(
            near.numpy(), numbers.numpy()
        )
        critic.log_counts.zero_()
        weights = critic.set_weights
        assert weights.shape[1] == len(critic.sets) == 4
        optimizer = torch.optim.LBFGS([weights], max_iter=500, tolerance_change=1e-12, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            optimizer.zero_grad()
            value = -log_likelihood(critic, y.float(), near).sum() + (SET_WEIGHT * weights).square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        ours = torch.softmax(critic.score_known(near), dim=1).detach().numpy()
        np.testing.assert_allclose(ours, theirs.predict_proba(near.numpy()), atol=2e-3)


def test_what_is_made_of_the_known_sets_is_made_anew_when_they_change() -> None:
    z = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    one, other = (critic_of(labels, z) for labels in ([[1, 0], [0, 1]], [[1, 1], [0, 0]]))
    near = one.similarities(z)
    for critic in (one, other):
        torch.nn.init.normal_(critic.label_weights, generator=torch.Generator().manual_seed(1))
    before = [critic.score_known(near) for critic in (one, other)]
    assert one.lookup(torch.tensor([[1, 1], [1, 0]])).tolist()[0] == 2, "not known"
    one.load_state_dict(other.state_dict())
    assert not torch.equal(*before) and torch.equal(one.score_known(near), before[1])
    assert one.lookup(torch.tensor([[1, 1], [1, 0]])).tolist()[1] == 2
    assert one.double().score_known(near.double()).dtype == torch.float64


class TestCandidates:
    def test_known_sets_come_first_and_no_set_counts_twice(self) -> None:
        critic = critic_of([[1, 0, 0], [1, 0, 0], [0, 1, 1]], torch.zeros(1, 2))
        logits = torch.tensor([[2.0, -1.0, -1.5]])
        posterior = pooled_posterior(critic, logits, torch.zeros(1, 2), Weights(1.0, 0.0))
        by_set = {}
        for one, p in zip(posterior.sets[0].tolist(), posterior.probabilities()[0].tolist(), strict=True):
            if p > 0:
                assert by_set.setdefault(tuple(one), p) == p, "a candidate with a probability occurs once"
        others, known = 6 * UNSEEN_COUNT, 2.5 / 4  # one of three rows has a set that occurs once
        assert len(by_set) == 8
        assert by_set[True, False, False] == pytest.approx(known * 2 / (3 + others), rel=1e-4)
        assert by_set[True, True, True] == pytest.approx(known * UNSEEN_COUNT / (3 + others), rel=1e-4)

    def test_known_sets_that_are_not_listed_keep_their_probability(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With one set and none of G listed, its probability is that among all known sets."""
        monkeypatch.setattr(known_sets_module, "BUDGET", 9)
        critic = critic_of([[1, 0, 0], [1, 0, 0], [0, 1, 1], [0, 1, 0]], torch.zeros(1, 2))
        logits = torch.full((1, 3), -20.0)  # the other sets that G lists are next to impossible
        found = pooled_posterior(critic, logits, torch.zeros(1, 2), Weights(1.0, 0.0))
        others, known = 5 * UNSEEN_COUNT, 2.5 / 5  # two of four rows have a set that occurs once
        assert found.best().tolist() == [[True, False, False]]
        assert found.probabilities()[0, 0].item() == pytest.approx(known * 2 / (4 + others), rel=1e-4)

    def test_new_sets_are_as_frequent_as_good_and_turing_say(self) -> None:
        """Drawn: 500 rows with sets of a heavy-tailed law, and how many of 20,000 others have a set of their own."""
        numbers = np.random.default_rng(4)
        sets = numbers.permutation(2**11)
        p = 1 / np.arange(1, 2**11 + 1)
        rows, further = (sets[numbers.choice(2**11, n, p=p / p.sum())] for n in (500, 20_000))
        bits = (rows[:, None] >> np.arange(11)) & 1
        critic = critic_of(bits.tolist(), torch.zeros(1, 2))
        new = 1 - np.isin(further, rows).mean()
        assert 0.3 < new < 0.6
        assert torch.sigmoid(critic.log_odds_unseen()).item() == pytest.approx(new, abs=0.05)

    def test_the_odds_of_a_new_set_are_finite_if_all_sets_or_none_are_known(self) -> None:
        for labels, chance in (([[0, 1]] * 999, 0.5 / 1000), ([[0, 0], [0, 1], [1, 0], [1, 1]], 4.5 / 5)):
            odds = critic_of(labels, torch.zeros(1, 2)).log_odds_unseen()
            assert torch.sigmoid(odds).item() == pytest.approx(chance, rel=1e-4)

    def test_the_generators_weight_counts(self) -> None:
        critic = critic_of([[1, 0], [1, 0], [0, 1]], torch.zeros(1, 2))
        logits = torch.tensor([[-1.0, 1.0]])
        for prior, chosen in ((0.0, [True, False]), (1.0, [False, True])):  # 2 beats 1, but not 1 e^2
            found = pooled_posterior(critic, logits, torch.zeros(1, 2), Weights(1.0, prior))
            assert found.best().tolist() == [chosen]


class TestPoolWeights:
    """Weights of D and G on rows that are drawn from a pool with weights that are known."""

    N_ROWS = 1500

    def drawn(self, beta: float, prior: float) -> tuple[KernelCritic, torch.Tensor, torch.Tensor, torch.Tensor]:
        """A critic, logits, similarities, and label sets drawn among the 8 known ones."""
        numbers = torch.Generator().manual_seed(0)
        sets = [[one >> 2 & 1, one >> 1 & 1, one & 1] for one in range(8) for _ in range(one + 1)]
        critic = critic_of(sets, torch.randn(20, 4, generator=numbers))
        critic.label_weights.data.normal_(0, 3, generator=numbers)
        critic.set_weights.data.normal_(0, 1, generator=numbers)
        near = critic.similarities(torch.randn(self.N_ROWS, 4, generator=numbers))
        logits = torch.randn(self.N_ROWS, 3, generator=numbers) * 1.5
        scores = beta * critic.score_known(near).detach() + prior * logits @ critic.sets.float().T
        drawn = torch.multinomial(scores.softmax(dim=1), 1, generator=numbers).squeeze(1)
        return critic, logits, near, critic.sets[drawn].to(torch.int8)

    @pytest.mark.parametrize(("beta", "prior"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (1.5, 0.2)])
    def test_those_that_made_the_rows_are_found(self, beta: float, prior: float) -> None:
        assert pool_weights(*self.drawn(beta, prior)) == pytest.approx((beta, prior), abs=0.15)

    def test_no_neighbour_is_better(self) -> None:
        critic, logits, near, labels = self.drawn(0.7, 0.4)
        chosen = pool_weights(critic, logits, near, labels)
        by_critic, by_generator = critic.score_known(near).detach(), logits @ critic.sets.float().T

        def posterior(beta: float, prior: float) -> float:
            log_p = (beta * by_critic + prior * by_generator).double().log_softmax(dim=1)
            of_true = log_p.gather(1, critic.lookup(labels.float())[:, None]).sum().item()
            return of_true - ((beta - 1) ** 2 + prior**2) / 2

        best = posterior(*chosen)
        for step in (0.02, -0.02):
            assert posterior(chosen.beta + step, chosen.prior) < best
            assert posterior(chosen.beta, chosen.prior + step) < best

    def test_an_unknown_label_tells_nothing_and_the_others_still_do(self) -> None:
        critic, logits, near, labels = self.drawn(0.0, 1.0)
        labels[:, 0] = -1
        assert pool_weights(critic, logits, near, labels) == pytest.approx((0.0, 1.0), abs=0.2)

    def test_without_a_row_that_tells_it_is_the_critic_alone(self) -> None:
        critic = critic_of([[1, 0], [1, 0], [0, 1]], torch.zeros(1, 2))
        near, logits = critic.similarities(torch.zeros(3, 2)), torch.randn(3, 2)
        for labels in ([[1, 1]] * 3, [[-1, -1]] * 3):
            found = pool_weights(critic, logits, near, torch.tensor(labels, dtype=torch.int8))
            assert found == pytest.approx((1.0, 0.0), abs=1e-3)

    def test_many_sets_take_fewer_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        critic, logits, near, labels = self.drawn(0.5, 0.5)
        monkeypatch.setattr(known_sets_module, "_KEPT", 8 * 500)
        assert pool_weights(critic, logits, near, labels) == pool_weights(critic, logits[::3], near[::3], labels[::3])


def test_the_rate_rises_and_falls_to_zero() -> None:
    assert [rate(step, 100) for step in (0, 9, 10)] == [0.1, 1.0, 1.0]
    assert rate(55, 100) == pytest.approx(0.5)
    assert rate(99, 100) < 0.001


@pytest.fixture(scope="module")
def exclusive(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Two labels of which exactly one is present; the features say which, but weakly."""
    folder = tmp_path_factory.mktemp("kernel")
    rng = np.random.default_rng(0)
    first = rng.random(600) < 0.5
    y = np.stack([first, ~first], axis=1).astype(np.int8)
    x = (np.where(first, 1, -1)[:, None] * 0.8 + rng.normal(size=(600, 4))).astype(np.float32)
    split = np.array(["train"] * 300 + ["val"] * 100 + ["test"] * 200)
    np.savez(folder / "x.npz", X=x, Y=y, label_names=np.array(["a", "b"]), split=split)
    sandbox = Sandbox(folder)
    told = sandbox.run("adversarial", "--dataset", folder / "x.npz", "--critic", "kernel", "--steps", 120)
    assert "chosen on val: beta" in told.stdout and "; the generator's weight 0." in told.stdout
    return sandbox


def test_a_run_decides_on_sets_and_leaves_the_generator_as_it_was(exclusive: Sandbox) -> None:
    chosen = exclusive.json("eval", "kernel", "--decision", "rerank")
    plain = exclusive.json("eval", "pretrain")
    assert chosen["decision"]["beta"] != 1, "it is fitted to val"
    assert chosen["labels_per_image"] == 1, "every set that train has holds one label"
    assert chosen["exact_match"] > plain["exact_match"] + 1
    assert exclusive.json("eval", "kernel")["mAP"] == plain["mAP"]


def test_an_interrupted_run_ends_with_the_bytes_of_an_unbroken_one(
    exclusive: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("adversarial", "--dataset", exclusive.folder / "x.npz", "--critic", "kernel", "--steps", 120)
    update = KernelStep.__call__

    def interrupted(self: KernelStep, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, torch.Tensor]:
        if step == 70:
            raise KeyboardInterrupt
        return update(self, step, batches)

    with monkeypatch.context() as patch:
        patch.setattr(KernelStep, "__call__", interrupted)
        assert exclusive.run(*words, "--out", tmp_path / "again").exit_code == 130
    assert exclusive.run(*words, "--out", tmp_path / "again").exit_code == 0
    run = only(exclusive.folder / "runs", "*-kernel")
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


@pytest.mark.parametrize("critic", [("kernel",), ("nce", "--freeze-generator")])
def test_weights_and_confidences_read_the_features_of_val_once(
    exclusive: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, critic: tuple[str, ...]
) -> None:
    passes = []
    collect = decisions.collect_features
    monkeypatch.setattr(decisions, "collect_features", lambda inputs: passes.append(inputs) or collect(inputs))
    words = ("--dataset", exclusive.folder / "x.npz", "--steps", 2, "--out", tmp_path / "run", "--critic", *critic)
    assert exclusive.run("adversarial", *words).exit_code == 0
    assert len(passes) == 1


@pytest.mark.parametrize(("words", "flag"), [(("--patience", 3), "--patience"), (("--select", "OF1"), "--select OF1")])
def test_no_evaluation_can_be_selected(
    exclusive: Sandbox, tmp_path: Path, words: tuple[str, object], flag: str
) -> None:
    """G's scores stay as they are, so the first evaluation would be the best: a critic after one tenth of training."""
    asked = ("--dataset", exclusive.folder / "x.npz", "--critic", "kernel", "--out", tmp_path / "run", *words)
    outcome = exclusive.run("adversarial", *asked)
    assert outcome.exit_code == 1
    assert flag in outcome.stderr and "keeps its last evaluation" in outcome.stderr


def test_its_penalty_is_no_decay_of_an_update(exclusive: Sandbox, tmp_path: Path) -> None:
    asked = ("--dataset", exclusive.folder / "x.npz", "--critic", "kernel", "--critic-weight-decay", 20, "--steps", 2)
    assert exclusive.run("adversarial", *asked, "--out", tmp_path / "run").exit_code == 0


def test_it_needs_no_flag_to_leave_a_joint_head_alone(exclusive: Sandbox, tmp_path: Path) -> None:
    asked = ("--dataset", exclusive.folder / "x.npz", "--steps", 5)
    assert exclusive.run("pretrain", *asked, "--head", "powerset", "--out", tmp_path / "start").exit_code == 0
    words = ("--critic", "kernel", "--from", tmp_path / "start", "--out", tmp_path / "run")
    assert exclusive.run("adversarial", *asked, *words).exit_code == 0


def test_without_its_weight_there_is_nothing_to_decide_by(exclusive: Sandbox) -> None:
    outcome = exclusive.run("eval", "kernel", "--decision", "rerank", "--beta", 0)
    assert outcome.exit_code == 1
    assert "--beta 0 leaves" in outcome.stderr and "--decision threshold" in outcome.stderr


def test_rows_with_unknown_labels_are_told(exclusive: Sandbox, tmp_path: Path) -> None:
    with np.load(exclusive.folder / "x.npz") as archive:
        arrays = dict(archive)
    arrays["Y"][:200, 0] = -1
    np.savez(tmp_path / "gaps.npz", **arrays)
    words = ("--dataset", tmp_path / "gaps.npz", "--steps", 2)
    assert "100 of 300 training rows have all labels known" not in exclusive.run("pretrain", *words).stderr
    told = exclusive.run("pretrain", *words, "--head", "powerset", "--out", tmp_path / "powerset").stderr
    assert "100 of 300 training rows have all labels known" in told
