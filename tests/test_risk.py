"""What a confidence is worth: risk and coverage, calibration error, and the temperature chosen on val."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, precision_recall_curve

from labeldep_cli.config import DecisionKind
from labeldep_cli.config.reading import read_precision
from labeldep_cli.evaluation import decisions, evaluate, risk
from labeldep_cli.evaluation.calibration import choose_temperature, kept_curve, temperature_of
from labeldep_cli.evaluation.decisions import ByCritic, ByThreshold, Decided, Outputs
from labeldep_cli.evaluation.rerank import score_candidates
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.models.kernel_critic import KernelCritic

CONFIDENCE = np.array([0.6, 0.9, 0.8, 0.8, 0.1])
RIGHT = np.array([False, True, True, False, True])
"""In order: .9 right; .8 twice, one right; .6 wrong; .1 right."""


def drawn(n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Confidences with ties and outcomes that follow them."""
    rng = np.random.default_rng(0)
    confidence = np.round(rng.random(n), 2)
    return confidence, rng.random(n) < confidence


def test_equal_confidences_are_accepted_together() -> None:
    curve = risk.risk_coverage(CONFIDENCE, RIGHT)
    assert curve.thresholds.tolist() == [0.9, 0.8, 0.6, 0.1]
    assert curve.accepted.tolist() == [1, 3, 4, 5]
    assert curve.right.tolist() == [1, 2, 2, 3]
    assert curve.coverage == pytest.approx([20, 60, 80, 100])
    assert curve.risk == pytest.approx([0, 100 / 3, 50, 40])


def test_the_area_by_hand() -> None:
    """Risks 0, 1/3 twice, 1/2, 2/5 have the mean 47/150; the ideal order has 0, 0, 0, 1/4, 2/5, mean 13/100."""
    curve = risk.risk_coverage(CONFIDENCE, RIGHT)
    assert curve.area == pytest.approx(100 * 47 / 150)
    assert curve.excess == pytest.approx(100 * (47 / 150 - 13 / 100))
    ideal = risk.risk_coverage(np.array([0.9, 0.8, 0.2]), np.array([True, True, False]))
    assert ideal.area == pytest.approx(100 / 9)
    assert ideal.excess == pytest.approx(0)


def test_of_several_crossings_the_last_one_counts() -> None:
    """Right shares 0, 1/2, 2/3, 3/4, 3/5: three quarters are reached at four rows, although the first row is wrong."""
    curve = risk.risk_coverage(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([False, True, True, True, False]))
    assert curve.coverage_at(0.75) == pytest.approx(80)
    assert curve.coverage_at(0.6) == pytest.approx(100)
    assert curve.coverage_at(0.76) == 0
    assert curve.index_at(0.6, fewest=6) is None


def test_a_share_is_reached_in_spite_of_its_rounding() -> None:
    """19 of 20 are 95 %."""
    curve = risk.risk_coverage(np.arange(20) / 20, np.arange(20) > 0)
    assert curve.coverage_at(0.95) == 100


def test_precision_at_each_confidence_is_that_of_scikit_learn() -> None:
    confidence, right = drawn()
    precision, _, thresholds = precision_recall_curve(right, confidence)
    curve = risk.risk_coverage(confidence, right)
    assert curve.thresholds[::-1] == pytest.approx(thresholds)
    assert 100 - curve.risk[::-1] == pytest.approx(100 * precision[:-1])


def test_the_calibration_error_by_hand() -> None:
    """With fewer rows than bins each confidence has its own, with the gaps .9, -.6, -.6 (both of .8) and .1."""
    assert risk.calibration_error(CONFIDENCE, RIGHT) == pytest.approx(100 * (0.9 + 0.6 + 0.6 + 0.1) / 5)


def test_the_calibration_error_is_that_of_scikit_learn_s_bins() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.permutation(np.linspace(0.01, 0.99, 15 * 40))
    right = rng.random(600) < confidence**2
    share, mean = calibration_curve(right, confidence, n_bins=15, strategy="quantile")
    assert risk.calibration_error(confidence, right) == pytest.approx(100 * np.abs(share - mean).mean(), abs=0.05)


def test_chance_alone_gives_an_error_that_falls_with_the_rows() -> None:
    """A bin of n rows at p = 1/2 is off by sqrt(1/4 / n) sqrt(2 / pi) on average: 40 rows 6.3 %, 4,000 rows 0.63 %."""
    confidence = np.linspace(0.4999, 0.5001, 600)
    assert risk.calibration_error_by_chance(confidence) == pytest.approx(6.3, abs=0.4)
    more = np.linspace(0.4999, 0.5001, 60_000)
    assert risk.calibration_error_by_chance(more) == pytest.approx(0.63, abs=0.04)
    assert risk.calibration_error_by_chance(confidence) == risk.calibration_error_by_chance(confidence[::-1])


def test_the_interval_of_wilson() -> None:
    """18 of 20: (0.9 + z²/40 ± z sqrt(0.09/20 + z²/1600)) / (1 + z²/20) with z = 1.96."""
    low, high = risk.interval(18, 20)
    assert (low, high) == (pytest.approx(0.699, abs=5e-4), pytest.approx(0.972, abs=5e-4))
    assert risk.interval(10, 10)[1] == pytest.approx(1)
    assert risk.interval(0, 10)[0] == 0.0


def test_unknown_labels_count_nowhere() -> None:
    labels = np.array([[1, -1], [0, 1], [-1, -1]], dtype=np.int8)
    sets = np.array([[True, True], [True, True], [False, False]])
    scored, right = risk.exactly_right(sets, labels)
    assert scored.tolist() == [True, True, False]
    assert right.tolist() == [True, False]


def test_scores_without_rows_are_none() -> None:
    assert set(risk.scores(np.zeros(0), np.zeros(0, dtype=bool)).values()) == {None}


def rows(n: int, temperature: float) -> tuple[Decided, np.ndarray]:
    """Sets p > 0.5 of logits that are too large by a factor, and labels drawn from the true probabilities."""
    rng = np.random.default_rng(2)
    true = rng.normal(size=(n, 3)) * 2
    labels = (rng.random((n, 3)) < 1 / (1 + np.exp(-true))).astype(np.int8)
    logits = (temperature * true).astype(np.float32)
    return ByThreshold(DecisionRule()).decide(Outputs(logits, lambda: pytest.fail("no features are needed"))), labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_too_large_logits_is_found(temperature: float) -> None:
    decided, labels = rows(20_000, temperature)
    found = temperature_of(decided, labels)
    assert found.why is None
    assert found.value == pytest.approx(temperature, rel=0.05)
    assert decided.at is not None
    right = risk.exactly_right(decided.sets, labels)[1]
    at_found = log_loss(right, decided.at(found.value))
    assert all(at_found <= log_loss(right, decided.at(found.value * factor)) for factor in (0.9, 0.98, 1.02, 1.1))


def test_fitted_probabilities_keep_their_scale_unless_many_rows_tell_otherwise() -> None:
    """The maximum of likelihood times prior, found on a fine grid; a hundred rows barely move it from 1."""
    for n, near in ((100, 1.0), (16_000, 1.5)):
        decided, labels = rows(n, 1.5)
        assert decided.at is not None
        right, grid = risk.exactly_right(decided.sets, labels)[1], np.exp(np.linspace(-0.1, 0.5, 201))
        loss = [n * log_loss(right, decided.at(t)) + (math.log(t) / 0.05) ** 2 / 2 for t in grid]
        fitted = temperature_of(replace(decided, fitted=True), labels).value
        assert fitted == pytest.approx(grid[int(np.argmin(loss))], rel=3e-3)
        assert fitted == pytest.approx(near, abs=0.1)
        assert abs(math.log(fitted)) < abs(math.log(temperature_of(decided, labels).value))


def test_a_kernel_critic_s_probabilities_are_fitted_and_a_ratio_critic_s_are_not() -> None:
    outputs = Outputs(np.zeros((2, 1), dtype=np.float32), lambda: torch.zeros(2, 1))
    kernel = KernelCritic(1, 1, landmarks=1, rank=1, n_sets=2, n_frequent=0)
    kernel.sets[1] = True
    assert ByCritic(kernel, 1.0, "validation").decide(outputs).fitted
    assert not ByCritic(lambda sets, z: 0.0 * sets.sum(dim=2), 1.0, "validation").decide(outputs).fitted  # type: ignore[arg-type]


def test_a_temperature_stays_in_its_range() -> None:
    """The most probable outcome would be T = infinity, since half of the surest rows are wrong."""
    surely = choose_temperature(lambda t: np.full(40, 0.5 + 0.49 / t), np.arange(40) % 2 == 0)
    assert surely.value == pytest.approx(10, rel=1e-3)


def test_too_few_rows_or_one_outcome_leave_the_temperature_at_one() -> None:
    def at(t: float) -> np.ndarray:
        return np.full(30, 0.9)

    assert choose_temperature(lambda t: at(t)[:19], np.arange(19) > 3) == (1.0, "val has only 19 rows")
    assert choose_temperature(at, np.ones(30, dtype=bool)) == (1.0, "every set of val is right")
    assert choose_temperature(at, np.zeros(30, dtype=bool)) == (1.0, "every set of val is wrong")


def test_the_kept_curve_is_that_of_val() -> None:
    labels = np.array([[1], [-1], [0], [1]], dtype=np.int8)
    kept = kept_curve(Decided(np.ones((4, 1), dtype=bool), np.array([0.25, 1.0, 0.5, 0.75])), labels)
    assert kept == {"thresholds": [0.75, 0.5, 0.25], "accepted": [1, 2, 3], "right": [1, 1, 2]}
    none = kept_curve(Decided(np.ones((1, 1), dtype=bool), np.array([0.5])), np.array([[-1]], dtype=np.int8))
    assert none == {"thresholds": [], "accepted": [], "right": []}


def test_of_many_thresholds_1000_are_kept_with_the_counts_of_all_rows() -> None:
    n = 7001
    decided = Decided(np.ones((n, 1), dtype=bool), np.linspace(0, 1, n))
    kept = kept_curve(decided, (np.arange(n) >= n // 2).astype(np.int8)[:, None])
    assert {len(values) for values in kept.values()} == {1000}
    assert (kept["thresholds"][0], kept["thresholds"][-1]) == (1.0, 0.0)
    assert (kept["accepted"][0], kept["accepted"][-1], kept["right"][-1]) == (1, n, n - n // 2)


def test_a_kept_threshold_accepts_the_row_that_it_comes_from() -> None:
    sure = 1 - 4e-10
    kept = kept_curve(Decided(np.ones((50, 1), dtype=bool), np.full(50, sure)), np.ones((50, 1), dtype=np.int8))
    assert json.loads(json.dumps(kept))["thresholds"] == [sure]


@pytest.mark.parametrize("rule", ["rerank", "expected-f1"])
def test_a_temperature_changes_the_critic_s_confidence_and_no_set(rule: DecisionKind) -> None:
    """One label with p_G = 1/2, and D = log 4 for the set that has it: 4/5, and at T = 2 it is 2/3."""
    logits = np.zeros((1, 1), dtype=np.float32)
    outputs = Outputs(logits, lambda: torch.zeros(1, 1))

    def critic(sets: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return math.log(4) * sets.sum(dim=2)

    decided = ByCritic(critic, 1.0, "given", rule).decide(outputs)  # type: ignore[arg-type]
    cooler = ByCritic(critic, 1.0, "given", rule, temperature=2.0).decide(outputs)  # type: ignore[arg-type]
    assert decided.sets.tolist() == cooler.sets.tolist() == [[True]]
    assert decided.confidence[0] == pytest.approx(4 / 5)
    assert cooler.confidence[0] == pytest.approx(2 / 3)
    assert decided.at is not None
    assert decided.at(2.0)[0] == pytest.approx(2 / 3)


def test_decisions_and_confidences_by_threshold_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(size=(13, 3)).astype(np.float32)
    outputs = Outputs(logits, lambda: pytest.fail("no features are needed"))
    rule = ByThreshold(DecisionRule(top_k=2, non_empty=True, threshold=0.4))
    whole = rule.decide(outputs)
    monkeypatch.setattr(evaluate, "_CELLS", 12)
    assert [(rows.start, rows.stop) for rows in evaluate.row_blocks(logits)] == [(0, 4), (4, 8), (8, 12), (12, 16)]
    parts = rule.decide(outputs)
    assert np.array_equal(whole.sets, parts.sets) and np.array_equal(whole.confidence, parts.confidence)
    assert len(list(evaluate.row_blocks(logits[:0]))) == 1 and len(rule.decide(Outputs(logits[:0], list)).sets) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["rerank", "expected-f1"])
def test_sets_and_confidences_by_a_critic_do_not_depend_on_the_blocks(
    rule: DecisionKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, z = torch.randn(600, 9, generator=generator), torch.randn(600, 9, generator=generator)
    outputs = Outputs(logits.numpy(), lambda: z)

    def critic(sets: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        return (sets @ features[:, :, None]).squeeze(2) + sets[:, :, 0] * sets[:, :, 1]

    whole = ByCritic(critic, 1.0, "given", rule).decide(outputs)  # type: ignore[arg-type]
    monkeypatch.setattr(decisions, "_CANDIDATES", 1)
    asked: list[int] = []
    monkeypatch.setattr(
        decisions, "score_candidates", lambda *given: asked.append(len(given[1])) or score_candidates(*given)
    )
    parts = ByCritic(critic, 1.0, "given", rule).decide(outputs)  # type: ignore[arg-type]
    assert asked == [256, 256, 88]
    assert np.array_equal(whole.sets, parts.sets) and np.array_equal(whole.confidence, parts.confidence)
    assert whole.at is not None and parts.at is not None and np.array_equal(whole.at(1.5), parts.at(1.5))


def test_a_decision_without_temperature_is_not_calibrated() -> None:
    decided = Decided(np.ones((30, 1), dtype=bool), np.full(30, 0.5))
    assert temperature_of(decided, np.ones((30, 1), dtype=np.int8)).value == 1.0


@pytest.mark.parametrize(
    ("text", "share"), [("0.95", 0.95), ("95%", 0.95), (" 99.5% ", 0.995), ("1", 1.0), ("100%", 1)]
)
def test_a_precision_is_a_share_or_per_cent(text: str, share: float) -> None:
    assert read_precision(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["95", "0", "nan", "101%", "-5%", "many", "%", "inf"])
def test_other_precisions_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name a share such as 0\.95 or 95%"):
        read_precision(text)
