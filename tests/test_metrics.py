"""The scores against numbers worked by hand, the paper's own tables, torchmetrics and scikit-learn."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support
from torchmetrics.classification import (
    MultilabelAveragePrecision,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelPrecision,
    MultilabelRecall,
)

from labeldep_cli.errors import DatasetError
from labeldep_cli.evaluation.metrics import average_precision, harmonic_mean, score, voc_average_precision

# method: C-P, C-R, C-F1, O-P, O-R, O-F1 as printed
TABLE_1 = {
    "WARP": (59.3, 52.5, 55.7, 59.8, 61.4, 60.7),
    "CNN-RNN": (66.0, 55.6, 60.4, 69.2, 66.4, 67.8),
    "Att-RNN": (71.6, 54.8, 62.1, 74.2, 62.2, 67.7),
    "RLSD": (67.6, 57.2, 62.0, 70.1, 63.4, 66.5),
    "VGG-16": (74.2, 44.8, 56.0, 77.6, 52.5, 62.6),
    "VGG-16 + WGAN-gp": (62.6, 58.3, 60.4, 67.5, 63.3, 65.3),
    "Inception_v3": (76.4, 52.8, 62.4, 80.0, 58.8, 67.8),
    "Inception_v3 + WGAN-gp": (70.5, 58.2, 63.8, 73.2, 63.8, 68.2),
    "Resnet-101": (76.2, 53.4, 62.8, 80.8, 58.9, 68.1),
    "Resnet-101 + WGAN-gp": (70.5, 58.7, 64.0, 72.3, 64.6, 68.2),
    "Resnet-152": (76.6, 53.9, 63.3, 80.6, 59.6, 68.6),
    "Resnet-152 + WGAN-gp": (71.4, 57.9, 63.9, 73.6, 64.2, 68.6),
}
TABLE_2 = {
    "WARP": (31.7, 35.6, 33.5, 48.6, 60.5, 53.9),
    "CNN-RNN": (40.5, 30.4, 34.7, 49.9, 61.7, 55.2),
    "Att-RNN": (59.4, 50.7, 54.7, 69.0, 71.4, 70.2),
    "RLSD": (44.4, 49.6, 46.9, 54.4, 67.6, 60.3),
    "VGG-16": (53.3, 24.9, 33.9, 73.9, 59.6, 66.0),
    "VGG-16 + WGAN-gp": (51.6, 34.3, 41.2, 68.8, 67.3, 68.1),
    "Inception_v3": (67.9, 44.1, 53.5, 74.7, 64.8, 70.3),  # the one row that does not hold, see MISPRINT
    "Inception_v3 + WGAN-gp": (62.4, 50.5, 55.8, 71.4, 70.9, 71.2),
    "Resnet-101": (67.0, 44.0, 53.1, 76.3, 65.0, 70.2),
    "Resnet-101 + WGAN-gp": (59.6, 51.8, 55.4, 68.9, 72.8, 70.8),
    "Resnet-152": (69.1, 41.8, 52.1, 75.9, 65.1, 70.1),
    "Resnet-152 + WGAN-gp": (65.2, 46.2, 54.1, 71.3, 70.8, 71.1),
}
MISPRINT = TABLE_2["Inception_v3"]
"""O-P 74.7 and O-R 64.8 give an O-F1 of 69.4, not the 70.3 printed: one of the three numbers is wrong."""
ROWS = [
    pytest.param(row, id=f"{table} {method}")
    for table, rows in (("COCO", TABLE_1), ("NUS-WIDE", TABLE_2))
    for method, row in rows.items()
]


def names_of(y):
    return [f"label{c}" for c in range(y.shape[1])]


def scored(logits, y, predicted=None, **kwargs):
    logits, y = np.asarray(logits, dtype=np.float32), np.asarray(y, dtype=np.int8)
    predicted = logits > 0 if predicted is None else np.asarray(predicted, dtype=bool)
    return score(logits, predicted, y, names_of(y), **kwargs)


def draw(seed, n=200, n_labels=7, step=None, unknown=0.0):
    """Logits that know something about the labels; `step` rounds them to a grid, so that many are tied."""
    rng = np.random.default_rng(seed)
    y = (rng.random((n, n_labels)) < np.linspace(0.05, 0.6, n_labels)).astype(np.int8)
    y[0] = 1  # every label occurs
    logits = rng.normal(size=y.shape) + 1.5 * y - 0.8
    if step is not None:
        logits = np.round(logits / step) * step
    y[1:][rng.random((n - 1, n_labels)) < unknown] = -1
    return logits.astype(np.float32), y


# ---------------------------------------------------------------- by hand


def test_harmonic_mean():
    assert harmonic_mean(76.2, 53.4) == pytest.approx(62.8, abs=0.05)
    assert harmonic_mean(1.0, 0.5) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(0.0, 80.0) == 0.0


@pytest.mark.parametrize("row", ROWS)
def test_the_papers_f1_is_the_harmonic_mean_of_its_precision_and_recall(row):
    cp, cr, cf1, op, o_r, of1 = row
    assert harmonic_mean(cp, cr) == pytest.approx(cf1, abs=0.15)
    assert harmonic_mean(op, o_r) == pytest.approx(69.4 if row is MISPRINT else of1, abs=0.15)


def test_both_tables_are_whole():
    assert len(ROWS) == 24


def test_cf1_is_not_macro_f1():
    """Per-class (P, R) = (1, 1), (.5, 1), (0, 0), the case of torchmetrics issue 1665."""
    s = scored([[1, 1, -1], [-1, 1, -1]], [[1, 1, 1], [0, 0, 0]])
    assert [(one.precision, one.recall) for one in s.per_label] == [(100, 100), (50, 100), (0, 0)]
    assert pytest.approx(50) == s.CP
    assert pytest.approx(200 / 3) == s.CR
    assert pytest.approx(57.14, abs=0.005) == s.CF1
    assert s.macro_f1 == pytest.approx(55.56, abs=0.005)


def test_every_field_by_hand():
    """Four images, three labels; the third never occurs but is predicted once."""
    y = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
    logits = [[2, -1, -1], [-1, 3, 1], [1, 2, -1], [-2, -2, -1]]
    s = scored(logits, y)
    # label 0: right 1 of 2 predicted, 2 present. label 1: 2 of 2, 2 present. label 2: 0 of 1, 0 present.
    assert (s.n_images, s.n_labels, s.skipped_labels) == (4, 3, 1)
    assert (s.CP, s.CR, s.CF1, s.macro_f1) == (75, 75, 75, 75)
    assert pytest.approx(60) == s.OP  # 3 right of 5 predicted: the false alarm for label 2 counts
    assert pytest.approx(75) == s.OR  # 3 of 4 present
    assert pytest.approx(200 / 3) == s.OF1
    assert s.exact_match == 50  # the first and the last image
    assert s.labels_per_image == 1.25
    assert s.true_labels_per_image == 1.0
    # label 0 ranks 2 (hit), 1 (miss), -1 (hit), -2: AP = 1/2 * 1 + 1/2 * 2/3. label 1: a perfect ranking.
    assert s.per_label[0].ap == pytest.approx(100 * 5 / 6)
    assert s.mAP == pytest.approx(100 * (5 / 6 + 1) / 2)
    assert s.per_label[2].precision == 0
    assert s.per_label[2].f1 == 0
    assert s.per_label[2].recall is None
    assert s.per_label[2].ap is None
    assert [one.count for one in s.per_label] == [2, 2, 0]


def test_json_has_the_contracts_keys_in_order():
    s = scored([[1.0, -1.0], [-1.0, -1.0]], [[1, 0], [1, 0]])
    record = s.to_json()
    assert " ".join(record) == (
        "n_images n_labels CP CR CF1 OP OR OF1 macro_f1 mAP exact_match labels_per_image true_labels_per_image "
        "skipped_labels per_label"
    )
    assert " ".join(record["per_label"][0]) == "label precision recall f1 ap count"
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["per_label"][1] == {
        "label": "label1", "precision": 0.0, "recall": None, "f1": 0.0, "ap": None, "count": 0,
    }  # fmt: skip


def test_a_perfect_prediction_is_exactly_100():
    _, y = draw(0, n=97, n_labels=11)
    s = scored(np.where(y, 0.3, -0.7), y)
    assert {s.CP, s.CR, s.CF1, s.OP, s.OR, s.OF1, s.macro_f1, s.mAP, s.exact_match} == {100.0}
    assert s.labels_per_image == s.true_labels_per_image


def test_logits_only_rank_and_sets_only_decide():
    logits, y = draw(1)
    base = scored(logits, y)
    other_sets = scored(logits, y, predicted=logits > 1)
    shifted = scored(logits + 8, y, predicted=logits > 0)
    assert other_sets.mAP == base.mAP
    assert other_sets.CF1 != base.CF1
    assert (shifted.CF1, shifted.OF1) == (base.CF1, base.OF1)


# ---------------------------------------------------------------- average precision


def test_average_precision_by_hand():
    scores = np.array([4.0, 3.0, 2.0, 1.0])
    y = np.array([0, 1, 0, 1])
    assert average_precision(scores, y) == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 4)
    y = np.array([0, 1, 1, 0])  # precision 1/2, then 2/3: VOC lifts the first to the second
    assert average_precision(scores, y) == pytest.approx(1 / 2 * 1 / 2 + 1 / 2 * 2 / 3)
    assert voc_average_precision(scores, y) == pytest.approx(2 / 3)


def test_equal_scores_are_one_threshold():
    for y in ([1, 0, 0, 0], [0, 0, 0, 1]):
        assert average_precision(np.zeros(4), np.array(y)) == 0.25
        assert voc_average_precision(np.zeros(4), np.array(y)) == 0.25


def test_average_precision_without_positives_is_nan():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(average_precision(np.arange(3.0), np.zeros(3, dtype=np.int8)))
        assert np.isnan(voc_average_precision(np.arange(3.0), np.zeros(3, dtype=np.int8)))


@pytest.mark.parametrize("step", [None, 0.25, 2.0])
def test_average_precision_equals_sklearn(step):
    logits, y = draw(2, step=step)
    for c in range(y.shape[1]):
        ours = average_precision(logits[:, c], y[:, c])
        assert ours == pytest.approx(average_precision_score(y[:, c], logits[:, c]), abs=1e-12)


def brute_voc(scores, y):
    """For each positive, the best precision over all thresholds that reach at least as high a recall."""
    points = []
    for t in set(scores.tolist()):
        chosen = scores >= t
        points.append((y[chosen].sum(), y[chosen].sum() / chosen.sum()))
    total = y.sum()
    return sum(max(p for right, p in points if right >= k) for k in range(1, total + 1)) / total


@pytest.mark.parametrize("step", [None, 0.25, 2.0])
def test_voc_average_precision_equals_brute_force(step):
    logits, y = draw(3, n=60, step=step)
    brute = [brute_voc(logits[:, c], y[:, c]) for c in range(y.shape[1])]
    for c, expected in enumerate(brute):
        ours = voc_average_precision(logits[:, c], y[:, c])
        assert ours == pytest.approx(expected, abs=1e-12)
        assert ours >= average_precision(logits[:, c], y[:, c])
    assert scored(logits, y, ap="voc").mAP == pytest.approx(100 * np.mean(brute))


# ---------------------------------------------------------------- torchmetrics


@pytest.mark.parametrize("step", [None, 0.5])
@pytest.mark.parametrize("n_labels", [2, 7, 20])
def test_equals_torchmetrics(step, n_labels):
    logits, y = draw(n_labels, n_labels=n_labels, step=step)
    s = scored(logits, y)
    probabilities, target = torch.sigmoid(torch.from_numpy(logits).double()), torch.from_numpy(y).long()

    def oracle(metric, **kwargs):
        return 100 * float(metric(num_labels=n_labels, **kwargs)(probabilities, target))

    expected = {
        "CP": oracle(MultilabelPrecision, average="macro"),
        "CR": oracle(MultilabelRecall, average="macro"),
        "macro_f1": oracle(MultilabelF1Score, average="macro"),
        "OP": oracle(MultilabelPrecision, average="micro"),
        "OR": oracle(MultilabelRecall, average="micro"),
        "OF1": oracle(MultilabelF1Score, average="micro"),
        "mAP": oracle(MultilabelAveragePrecision, average="macro"),
        "exact_match": oracle(MultilabelExactMatch),
    }
    assert {key: getattr(s, key) for key in expected} == pytest.approx(expected, abs=1e-3)


def test_unknown_labels_equal_torchmetrics_ignore_index():
    logits, y = draw(5, unknown=0.3)
    s = scored(logits, y)
    probabilities, target = torch.sigmoid(torch.from_numpy(logits).double()), torch.from_numpy(y).long()
    for key, metric, average in (
        ("CP", MultilabelPrecision, "macro"),
        ("CR", MultilabelRecall, "macro"),
        ("OF1", MultilabelF1Score, "micro"),
        ("mAP", MultilabelAveragePrecision, "macro"),
    ):
        oracle = metric(num_labels=y.shape[1], average=average, ignore_index=-1)
        assert getattr(s, key) == pytest.approx(100 * float(oracle(probabilities, target)), abs=1e-3)


# ---------------------------------------------------------------- scikit-learn


def assert_equals_sklearn(logits, y, predicted):
    """Means over the labels that occur, pooled counts over all labels, zero_division=0."""
    s = scored(logits, y, predicted)
    y, predicted = np.asarray(y), np.asarray(predicted).astype(int)
    occurs = np.flatnonzero(y.sum(axis=0))
    # scikit-learn takes a single column for a binary problem with two classes: ask for the positive one
    single = y.shape[1] == 1
    pair = (y[:, 0], predicted[:, 0]) if single else (y, predicted)
    macro, pooled = ([1], [1]) if single else (occurs, None)
    cp, cr, macro_f1, _ = precision_recall_fscore_support(*pair, labels=macro, average="macro", zero_division=0)
    op, o_r, of1, _ = precision_recall_fscore_support(*pair, labels=pooled, average="micro", zero_division=0)
    aps = [average_precision_score(y[:, c], np.asarray(logits)[:, c]) for c in occurs]
    expected = {
        "CP": cp, "CR": cr, "macro_f1": macro_f1, "OP": op, "OR": o_r, "OF1": of1,
        "mAP": np.mean(aps), "exact_match": accuracy_score(y, predicted),
    }  # fmt: skip
    assert {key: getattr(s, key) for key in expected} == pytest.approx({k: 100 * v for k, v in expected.items()})
    assert s.skipped_labels == y.shape[1] - len(occurs)
    assert pytest.approx(harmonic_mean(100 * cp, 100 * cr)) == s.CF1
    assert s.labels_per_image == pytest.approx(predicted.sum() / len(y))


@pytest.mark.parametrize("step", [None, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_equals_sklearn(seed, step):
    logits, y = draw(seed, n=60, step=step)
    assert_equals_sklearn(logits, y, logits > 0)


def test_per_label_equals_sklearn():
    logits, y = draw(6)
    precision, recall, f1, count = precision_recall_fscore_support(y, logits > 0, average=None, zero_division=0)
    ours = scored(logits, y).per_label
    assert [one.label for one in ours] == names_of(y)
    assert [one.precision for one in ours] == pytest.approx(list(100 * precision))
    assert [one.recall for one in ours] == pytest.approx(list(100 * recall))
    assert [one.f1 for one in ours] == pytest.approx(list(100 * f1))
    assert [one.count for one in ours] == list(count)


@pytest.mark.parametrize("case", ["no predictions", "all predictions", "labels absent", "one image", "one label"])
def test_equals_sklearn_on_degenerate_input(case):
    logits, y = draw(7, n=30)
    predicted = logits > 0
    if case == "no predictions":
        predicted = np.zeros_like(predicted)
    elif case == "all predictions":
        predicted = np.ones_like(predicted)
    elif case == "labels absent":
        y[:, [0, 3, 6]] = 0
        predicted[:, 3] = False  # one of them is never predicted, the others are: false alarms
        assert predicted[:, [0, 6]].any(axis=0).all()
    elif case == "one image":
        logits, y, predicted = logits[:1], np.array([[1, 0, 1, 0, 0, 1, 0]], dtype=np.int8), predicted[:1]
    else:
        logits, y, predicted = logits[:, 6:], y[:, 6:], predicted[:, 6:]
    assert_equals_sklearn(logits, y, predicted)


def test_no_label_occurs():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s = scored([[1.0, -1.0], [-1.0, -1.0]], np.zeros((2, 2)))
    assert (s.CP, s.CR, s.CF1, s.OP, s.OR, s.OF1, s.macro_f1, s.mAP) == (0,) * 8
    assert (s.skipped_labels, s.exact_match, s.labels_per_image) == (2, 50, 0.5)
    json.dumps(s.to_json(), allow_nan=False)


# ---------------------------------------------------------------- unknown labels


def test_unknown_labels_equal_scoring_each_label_on_its_known_rows():
    logits, y = draw(8, unknown=0.4)
    s = scored(logits, y)
    alone = [scored(logits[y[:, c] >= 0, c : c + 1], y[y[:, c] >= 0, c : c + 1]) for c in range(y.shape[1])]
    for ours, one in zip(s.per_label, alone, strict=True):
        assert (ours.precision, ours.recall, ours.f1, ours.ap, ours.count) == (
            one.CP, one.CR, one.macro_f1, one.mAP, one.per_label[0].count,
        )  # fmt: skip
    assert pytest.approx(np.mean([one.CP for one in alone])) == s.CP
    assert pytest.approx(np.mean([one.CR for one in alone])) == s.CR
    assert s.mAP == pytest.approx(np.mean([one.mAP for one in alone]))
    known = y >= 0
    op, o_r, of1, _ = precision_recall_fscore_support(y[known], logits[known] > 0, average="binary")
    assert pytest.approx((100 * op, 100 * o_r, 100 * of1)) == (s.OP, s.OR, s.OF1)


def test_what_is_predicted_for_an_unknown_label_counts_nowhere():
    logits, y = draw(9, unknown=0.4)
    predicted = logits > 0
    flipped = np.where(y == -1, ~predicted, predicted)
    relogits = np.where(y == -1, -logits, logits)
    assert scored(logits, y, predicted) == scored(relogits, y, flipped)


def test_exact_match_and_labels_per_image_with_unknown_labels():
    """The third image has no known label: it is neither right nor wrong, and no denominator."""
    s = scored([[1, 1], [-1, 1], [1, 1]], [[1, -1], [1, -1], [-1, -1]])
    assert s.n_images == 3
    assert (s.exact_match, s.labels_per_image, s.true_labels_per_image) == (50, 0.5, 1.0)
    assert s.skipped_labels == 1


# ---------------------------------------------------------------- refusals


def test_nan_logits_are_refused():
    logits, y = draw(10, n=5)
    logits[2, 3] = np.nan
    with pytest.raises(ValueError, match=r"1 logits are NaN, the first in row 2, label 'label3'"):
        scored(logits, y)


def test_infinite_logits_rank():
    s = scored([[np.inf], [-np.inf], [0.0]], [[1], [0], [0]])
    assert s.mAP == 100


def test_nothing_known_is_refused():
    with pytest.raises(DatasetError, match="no image has a known label"):
        scored([[1.0, 2.0]], [[-1, -1]])
    with pytest.raises(DatasetError, match="no image has a known label"):
        scored(np.zeros((0, 2)), np.zeros((0, 2)))


def test_arrays_that_do_not_belong_together_are_refused():
    logits, y = draw(11, n=5)
    with pytest.raises(ValueError, match=r"labels \(5, 7\) for 6 label names"):
        score(logits, logits > 0, y, names_of(y)[:6])
    with pytest.raises(ValueError, match=r"predicted \(4, 7\) for labels \(5, 7\)"):
        score(logits, logits[:4] > 0, y, names_of(y))
    with pytest.raises(ValueError, match="predicted is float32, not bool"):
        score(logits, logits, y, names_of(y))
    with pytest.raises(ValueError, match="ap '11-point': known are step, voc"):
        score(logits, logits > 0, y, names_of(y), ap="11-point")
