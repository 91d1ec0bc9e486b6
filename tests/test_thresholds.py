"""Decision rules, and thresholds tuned on validation rows, against brute force and numbers worked by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.evaluation.evaluate import tuned_thresholds
from labeldep_cli.evaluation.thresholds import DecisionRule, tune, tune_per_label
from labeldep_cli.inputs.features import FeatureInputs

P = np.array([[0.9, 0.6, 0.5, 0.1], [0.2, 0.4, 0.3, 0.4]])


def sets(rule, p=P):
    return [np.flatnonzero(row).tolist() for row in rule.decide(np.asarray(p))]


def draw(seed, n=40, n_labels=5, decimals=None, unknown=0.0):
    rng = np.random.default_rng(seed)
    y = (rng.random((n, n_labels)) < 0.3).astype(np.int8)
    p = 1 / (1 + np.exp(-(rng.normal(size=y.shape) + 1.2 * y - 1)))
    if decimals is not None:
        p = p.round(decimals)
    y[rng.random(y.shape) < unknown] = -1
    return p, y


def f1_at(p, y, t):
    chosen, present = (p > t) & (y >= 0), y == 1
    return 2 * (chosen & present).sum() / max(chosen.sum() + present.sum(), 1)


def every_cut(p):
    """A threshold in each gap between distinct probabilities, and the probabilities themselves."""
    edges = np.unique(np.concatenate([[0.0, 1.0], p.ravel().astype(np.float64)]))
    return np.concatenate([edges, (edges[1:] + edges[:-1]) / 2])


# ---------------------------------------------------------------- decision rules


def test_strictly_above_the_threshold():
    rule = DecisionRule()
    assert (rule.threshold, rule.top_k, rule.non_empty, rule.source) == (0.5, None, False, "default")
    assert sets(rule) == [[0, 1], []]
    assert sets(DecisionRule(threshold=0.2)) == [[0, 1, 2], [1, 2, 3]]


def test_half_is_logit_above_zero():
    logits = np.concatenate([np.random.default_rng(0).normal(size=500), [0.0, -0.0, 1e-9, -1e-9]])[:, None]
    assert np.array_equal(DecisionRule().decide(1 / (1 + np.exp(-logits))), logits > 0)


def test_a_threshold_for_each_label():
    assert sets(DecisionRule(threshold=(0.95, 0.3, 0.5, 0.0))) == [[1, 3], [1, 3]]
    with pytest.raises(ValueError, match="2 thresholds for 4 labels"):
        DecisionRule(threshold=(0.5, 0.5)).decide(P)
    with pytest.raises(ValueError, match="1 thresholds for 4 labels"):
        DecisionRule(threshold=(0.5,)).decide(P)


def test_top_k_alone_takes_k_and_breaks_ties_in_label_order():
    assert sets(DecisionRule(threshold=None, top_k=1)) == [[0], [1]]
    assert sets(DecisionRule(threshold=None, top_k=3)) == [[0, 1, 2], [1, 2, 3]]
    assert sets(DecisionRule(threshold=None, top_k=9)) == [[0, 1, 2, 3]] * 2
    many = np.tile([0.3, 0.7], 200)[None]  # wide enough for a sort that is not stable to shuffle the ties
    assert sets(DecisionRule(threshold=None, top_k=50), many) == [list(range(1, 100, 2))]


def test_top_k_of_those_above_the_threshold():
    assert sets(DecisionRule(threshold=0.35, top_k=1)) == [[0], [1]]
    assert sets(DecisionRule(threshold=0.35, top_k=3)) == [[0, 1, 2], [1, 3]]


def test_an_empty_set_becomes_its_most_probable_label():
    assert sets(DecisionRule(non_empty=True)) == [[0, 1], [1]]
    assert sets(DecisionRule(threshold=1.0, top_k=2, non_empty=True)) == [[0], [1]]
    assert sets(DecisionRule(non_empty=True), np.zeros((1, 3))) == [[0]]
    assert DecisionRule(non_empty=True).decide(np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("per_label", [False, True])
def test_a_threshold_between_two_neighbouring_float32_still_parts_them(per_label):
    low = np.float32(0.3)
    high = np.nextafter(low, np.float32(1))
    t = (float(low) + float(high)) / 2
    rule = DecisionRule(threshold=(t, t) if per_label else t)
    assert sets(rule, np.array([[low, high]])) == [[1]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": None}, "needs a threshold, a k, or both"),
        ({"top_k": 0}, "k must be 1 or more"),
        ({"threshold": 1.5}, "threshold 1.5: must be in 0..1"),
        ({"threshold": float("nan")}, "must be in 0..1"),
        ({"threshold": (0.5, -0.1)}, "must be in 0..1"),
        ({"rule": "rerank"}, "decision rule 'rerank'"),
    ],
)
def test_rules_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        DecisionRule(**settings)


@pytest.mark.parametrize("bad", [np.nan, -0.1, 3.0])
def test_what_is_no_probability_is_refused(bad):
    p, y = np.array([[0.5, bad]]), np.array([[1, 0]], dtype=np.int8)
    for call in (DecisionRule().decide, lambda p: tune(p, y), lambda p: tune_per_label(p, y)):
        with pytest.raises(ValueError, match=r"must lie in 0\.\.1"):
            call(p)


# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("rule", "record"),
    [
        (DecisionRule(), {"rule": "threshold", "threshold": 0.5, "non_empty": False, "source": "default"}),
        (
            DecisionRule(threshold=None, top_k=3, source="given"),
            {"rule": "threshold", "k": 3, "non_empty": False, "source": "given"},
        ),
        (
            DecisionRule(threshold=(0.25, 1 / 3), top_k=3, non_empty=True, source="tuned per label on val"),
            {
                "rule": "threshold",
                "threshold": [0.25, 1 / 3],
                "k": 3,
                "non_empty": True,
                "source": "tuned per label on val",
            },
        ),
    ],
)
def test_json(rule, record):
    assert rule.to_json() == record


def test_json_of_numpy_thresholds():
    rule = DecisionRule(threshold=tuple(np.array([0.5, 0.25], dtype=np.float32)))
    assert json.loads(json.dumps(rule.to_json()))["threshold"] == [0.5, 0.25]


# ---------------------------------------------------------------- tuning


def test_the_f1_of_these_tests_is_scikit_learns():
    p, y = draw(4, unknown=0.3)
    known = y >= 0
    for t in (0.0, 0.3, 0.6, 1.0):
        assert f1_at(p, y, t) == pytest.approx(f1_score(y[known], p[known] > t, zero_division=0))


def test_tune_by_hand():
    """Cuts from above: F1 = 2/3, 1/2, 4/5 (all three above .2: 2 right of 3), 2/3."""
    p, y = np.array([[0.9, 0.6], [0.3, 0.1]]), np.array([[1, 0], [1, 0]], dtype=np.int8)
    assert tune(p, y) == pytest.approx(0.2)  # midway between .3 and .1


def test_tune_takes_the_tied_cut_nearest_to_half():
    """Cut above .8: 1 right of 1, F1 = 2/(1 + 3). Above .2: 3 right of 9, F1 = 6/(9 + 3). Both 1/2, the best."""
    p = np.array([[0.8] + [0.2] * 8 + [0.0]])
    y = np.array([[1] + [1, 1] + [0] * 6 + [0]], dtype=np.int8)
    assert tune(p, y) == pytest.approx(0.5)  # midway between .8 and .2; the other cut would be .1


@pytest.mark.parametrize("decimals", [None, 1, 2])
@pytest.mark.parametrize("unknown", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_no_cut_beats_the_tuned_threshold(seed, unknown, decimals):
    p, y = draw(seed, n=15, unknown=unknown, decimals=decimals)
    t = tune(p, y)
    best = max(f1_at(p, y, cut) for cut in every_cut(p))
    assert f1_at(p, y, t) == best
    values = np.unique(np.append(p[y >= 0], 0.0))
    as_good = [middle for middle in (values[1:] + values[:-1]) / 2 if f1_at(p, y, middle) == best]
    assert abs(t - 0.5) == pytest.approx(min(abs(middle - 0.5) for middle in as_good))


@pytest.mark.parametrize("seed", range(3))
def test_no_cut_beats_the_threshold_tuned_for_its_label(seed):
    p, y = draw(seed, n=20, unknown=0.2)
    tuned = tune_per_label(p, y)
    assert tuned.shape == (5,)
    assert tuned.dtype == np.float64
    for c in range(5):
        best = max(f1_at(p[:, c], y[:, c], t) for t in every_cut(p[:, c]))
        assert f1_at(p[:, c], y[:, c], tuned[c]) == best
        assert tuned[c] == tune(p[:, c : c + 1], y[:, c : c + 1])


def test_tuned_threshold_lies_midway_between_its_neighbours():
    p, y = draw(5)
    t = tune(p, y)
    values = np.unique(p)
    k = np.searchsorted(values, t)
    assert t == pytest.approx((values[k - 1] + values[k]) / 2)


def test_tune_between_neighbouring_floats():
    for dtype in (np.float32, np.float64):
        low = dtype(0.3)
        high = np.nextafter(low, dtype(1))
        p, y = np.array([[low, high]]), np.array([[0, 1]], dtype=np.int8)
        t = tune(p, y)
        assert sets(DecisionRule(threshold=t), p) == [[1]]
        assert t == (float(low) + float(high)) / 2 if dtype is np.float32 else t == low


def test_what_no_threshold_can_find():
    y = np.array([[1, 0, 0]], dtype=np.int8)
    assert tune(np.array([[0.7, 0.2, 0.1]]), 0 * y) == 0.5  # nothing present
    assert tune(np.array([[0.7, 0.2, 0.1]]), 0 * y - 1) == 0.5  # nothing known
    assert tune(np.array([[0.0, 0.2, 0.1]]), y) == 0.5  # p > t leaves out p = 0 for every t
    assert tune(np.zeros((1, 3)), y) == 0.5
    assert tune(np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int8)) == 0.5
    assert tune(np.ones((1, 1)), np.ones((1, 1), dtype=np.int8)) == 0.5  # midway between 1 and 0


def test_labels_without_positives_keep_the_fallback():
    p = np.array([[0.9, 0.8, 0.7], [0.3, 0.1, 0.2]])
    y = np.array([[1, 0, -1], [0, 0, -1]], dtype=np.int8)
    assert tune_per_label(p, y).tolist() == pytest.approx([0.6, 0.5, 0.5])
    assert tune_per_label(p, y, fallback=0.3).tolist() == pytest.approx([0.6, 0.3, 0.3])


def test_a_label_without_positives_on_val_takes_the_shared_threshold():
    """Label 0: p = 4/5 with it, 2/5 without; label 1 has p = 1/10 and never occurs. The best cut is at 3/5."""
    logits = np.log(np.array([[4, 1 / 9], [2 / 3, 1 / 9]], dtype=np.float32))
    inputs = FeatureInputs(
        np.zeros((2, 1, 1), dtype=np.float32),
        np.array([[1, 0], [0, 0]], dtype=np.int8),
        ["with", "without"],
        LabelSpace(("sea", "sky")),
        (),
        torch.device("cpu"),
    )
    found = tuned_thresholds(logits, inputs)
    assert found == {"tuned": pytest.approx(0.6), "tuned-per-label": pytest.approx([0.6, 0.6])}


def test_unknown_labels_do_not_move_the_threshold():
    p, y = draw(6, unknown=0.3)
    moved = np.where(y == -1, 1 - p, p)
    assert tune(p, y) == tune(moved, y)
    assert np.array_equal(tune_per_label(p, y), tune_per_label(moved, y))


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"probabilities \(2, 4\) for labels \(2, 3\)"):
        tune(P, np.zeros((2, 3), dtype=np.int8))
    with pytest.raises(ValueError, match=r"must be \[N, L\]"):
        DecisionRule().decide(P[0])
