"""Label dependency, measured: numbers by hand, and what the measures are for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sandbox import Sandbox

from labeldep_cli.evaluation.dependency import measure, two_sample_p
from labeldep_cli.evaluation.pair_counts import PairCounts, cooccurrence_counts


def sets(*rows: str) -> np.ndarray:
    """Label sets as strings of 0 and 1."""
    return np.array([[int(c) for c in row] for row in rows], dtype=np.int8)


def test_pairs_by_hand() -> None:
    """10 images: a and b together in 4, a alone in 1, neither in 5. lift = 10 * 4 / (5 * 4) = 2."""
    labels = sets(*["11"] * 4, "10", *["00"] * 5)
    p = np.tile([0.5, 0.4], (10, 1))
    found = measure(labels, labels > 0, p, labels, "ab", seed=0)
    (pair,) = found.pairs
    assert (pair.labels, pair.real, pair.predicted) == (("a", "b"), 4, 4)
    assert pair.expected == pytest.approx(10 * 0.5 * 0.4)
    assert pair.excess == pytest.approx(2.0)
    assert pair.lift == pair.predicted_lift == pytest.approx(2.0)
    assert found.cardinality == pytest.approx((0.5, 0.1, 0.4))


def test_the_truth_does_not_differ_from_itself() -> None:
    labels = (np.random.default_rng(0).random((60, 4)) < 0.4).astype(np.int8)
    found = measure(labels, labels > 0, labels.astype(float), labels, "abcd", seed=0)
    for kind in (found.decided, found.sampled):  # probabilities 0 and 1: samples are the truth too
        assert kind.lift_error == pytest.approx(0, abs=1e-12)
        assert kind.cardinality_distance == 0
        assert kind.unseen_pairs == kind.unseen_sets == 0
        assert kind.p_value == 1


def test_lift_error_by_hand() -> None:
    """Real: both or neither, lift 10 * 5 / 25 = 2. Predicted: each in 5, together in 2: lift 0.8. ln 2 - ln 0.8."""
    real = sets(*["11"] * 5, *["00"] * 5)
    decided = sets(*["11"] * 2, *["10"] * 3, *["01"] * 3, *["00"] * 2) > 0
    found = measure(real, decided, np.full((10, 2), 0.5), real, "ab", seed=0)
    assert found.decided.lift_error == pytest.approx(math.log(2 / 0.8))
    # sizes: real 0.5 / 0 / 0.5, predicted 0.2 / 0.6 / 0.2
    assert found.decided.cardinality_distance == pytest.approx(0.6)
    assert found.decided.unseen_sets == pytest.approx(0.6)


def test_of_many_labels_the_pairs_of_the_most_frequent_are_listed_and_all_count() -> None:
    """The same sets as the first of 700 labels and as the last: the rare ones come first, and are not listed."""
    numbers = np.random.default_rng(0)
    frequent = (numbers.random((80, 500)) < 0.05).astype(np.int8)
    rare = np.zeros((80, 200), dtype=np.int8)
    rare[:6, :2] = 1  # a pair that counts for the lift, though it is not listed
    frequent[:8] = 1  # so that each of the others occurs more often
    labels = np.concatenate([rare, frequent], axis=1)
    names = [f"l{k}" for k in range(700)]
    found = measure(labels, labels > 0, labels.astype(float), labels, names, seed=0)
    assert found.labels_left_out == 200 and len(found.pairs) == 500 * 499 // 2
    assert {name for pair in found.pairs[:900] for name in pair.labels} <= set(names[200:])
    decided = labels > 0
    decided[:6, 1] = False
    alone = measure(labels[:, :2], decided[:, :2], labels[:, :2].astype(float), labels[:, :2], names[:2], seed=0)
    beside = measure(labels, decided, labels.astype(float), labels, names, seed=0)
    n_frequent = int((np.triu(frequent.T.astype(int) @ frequent, k=1) >= 5).sum())
    assert alone.decided.lift_error is not None and beside.decided.lift_error is not None
    assert beside.decided.lift_error == pytest.approx(alone.decided.lift_error / (n_frequent + 1))


def test_sparse_counts_are_those_of_a_table() -> None:
    numbers = np.random.default_rng(1)
    for shape, share in (((30, 12), 0.3), ((5, 40), 0.9), ((20, 6), 0.0)):
        some, others = (numbers.random(shape) < share for _ in range(2))
        counted, beside = PairCounts.of(some), PairCounts.of(others)
        table, other = (np.triu(cooccurrence_counts(sets), k=1) for sets in (some, others))
        assert np.array_equal(np.argwhere(table), np.stack([counted.first, counted.second], axis=1))
        assert np.array_equal(table[table > 0], counted.counts)
        assert np.array_equal(other[counted.first, counted.second], beside.at(counted))
        assert np.array_equal(counted.with_at_least(3).counts, table[table >= 3])


def test_pairs_and_sets_that_training_never_had() -> None:
    train = sets("110", "001")
    decided = sets("110", "011", "001", "110") > 0
    found = measure(decided.astype(np.int8), decided, decided.astype(float), train, "abc", seed=0)
    assert found.decided.unseen_pairs == pytest.approx(1 / 3), "ab, bc, ab: bc is new"
    assert found.decided.unseen_sets == pytest.approx(1 / 4)


def test_the_largest_excess_comes_first_whatever_its_sign() -> None:
    """10 images, every p 1/2: each pair is expected in 2.5. a and b are in 4, b and c in 3, a and c in none."""
    labels = sets(*["110"] * 4, *["011"] * 3, *["000"] * 3)
    found = measure(labels, labels > 0, np.full((10, 3), 0.5), labels, "abc", seed=0)
    assert [("".join(pair.labels), pair.excess) for pair in found.pairs] == [("ac", -2.5), ("ab", 1.5), ("bc", 0.5)]


def test_sampled_sets_are_drawn_from_the_probabilities_not_from_the_decision() -> None:
    """Both labels are certain, and a decision takes neither."""
    labels = sets(*["11"] * 10)
    found = measure(labels, labels < 0, np.ones((10, 2)), labels, "ab", seed=0)
    assert (found.sampled.cardinality, found.sampled.cardinality_distance) == ((0, 0, 1), 0)
    assert (found.decided.cardinality, found.decided.cardinality_distance) == ((1,), 1)


def test_what_is_unknown_in_training_counts_as_absent() -> None:
    """Training has {a, b} and perhaps c: {a, b} is no new set, and a with c a new pair."""
    train = sets("110", "001")
    train[0, 2] = -1
    decided = sets("110", "101") > 0
    found = measure(decided.astype(np.int8), decided, decided.astype(float), train, "abc", seed=0)
    assert (found.decided.unseen_sets, found.decided.unseen_pairs) == (1 / 2, 1 / 2)


def test_rows_with_an_unknown_label_are_left_out() -> None:
    labels = sets("11", "00", "11")
    labels[2, 0] = -1
    found = measure(labels, labels > 0, np.full((3, 2), 0.5), labels, "ab", seed=0)
    assert found.n_images == 2
    with pytest.raises(ValueError, match="all its labels known"):
        measure(labels[2:], labels[2:] > 0, np.full((1, 2), 0.5), labels, "ab", seed=0)


class TestTwoSamples:
    def test_independent_samples_of_dependent_labels_are_told_apart(self) -> None:
        """Right single labels, wrong pairs: only the pairs can tell."""
        rng = np.random.default_rng(0)
        both = rng.random(400) < 0.5
        real = np.stack([both, both], axis=1)
        assert two_sample_p(real, rng.random((400, 2)) < 0.5, 0) < 0.01

    def test_a_difference_that_is_the_same_in_every_image(self) -> None:
        """Real {a}, predicted {b}: each term is 4 - 1 - 1 + 4 = 6, and they add up to 6 (sum of signs)^2.

        Of 20 images one flip in 2^19 gives as much as the sample itself; of one image every flip does.
        """
        assert two_sample_p(sets(*["10"] * 20) > 0, sets(*["01"] * 20) > 0, 0) == 1 / 1000
        assert two_sample_p(sets("10") > 0, sets("01") > 0, 0) == 1

    def test_it_holds_its_level(self) -> None:
        """Two samples of one distribution: p below 0.1 in about 10 of 100 trials."""
        below = 0
        for trial in range(100):
            rng = np.random.default_rng(trial)
            below += two_sample_p(rng.random((60, 3)) < 0.4, rng.random((60, 3)) < 0.4, trial) <= 0.1
        assert 2 <= below <= 20


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Ready features that tell a little of one label, which brings another with it."""
    sandbox = Sandbox(tmp_path_factory.mktemp("tied"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 4)).astype(np.float32)
    first = (x[:, 0] + 2 * rng.normal(size=2000) > 0).astype(np.int8)
    y = np.stack([first, first, rng.integers(0, 2, 2000)], axis=1).astype(np.int8)
    np.savez(sandbox.folder / "tied.npz", X=x, Y=y, label_names=list("abc"))
    sandbox.json("pretrain", "--dataset", sandbox.folder / "tied.npz", "--steps", 200)
    return sandbox


def test_the_command_finds_what_the_features_do_not_explain(tied: Sandbox) -> None:
    found = tied.json("dependency")
    pair = found["pairs"][0]
    assert pair["labels"] == ["a", "b"]
    assert pair["excess"] > 50, "of 500 test images: nearly all that a and b share is excess"
    assert found["sampled"]["p_value"] < 0.01
    assert found["sampled"]["unseen_sets"] > 0.3, "a without b, or b without a"
    assert found["decision"]["threshold"] == 0.5
    assert sum(found["cardinality"]) == pytest.approx(1)


def test_it_is_a_table_for_people(tied: Sandbox) -> None:
    result = tied.run("dependency", "--threshold", "tuned")
    assert result.exit_code == 0
    assert "largest excess" in result.stdout
    assert "sampled from p(label)" in result.stdout
    assert "a + b" in result.stdout
