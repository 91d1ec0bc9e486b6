"""What is said of differences between runs, word for word: README, docs and reports quote these sentences."""

from __future__ import annotations

from labeldep_cli.evaluation.bootstrap import METRICS, Interval
from labeldep_cli.experiments import verdict
from labeldep_cli.experiments.rules import CRITIC, RULES

UNSURE = Interval(0.3, -0.9, 1.46)


def sets(rules: tuple[str, ...] = RULES, **changed: Interval) -> dict[str, dict[str, Interval]]:
    """By rule and metric; `changed` by "rule, metric"."""
    found = {rule: dict.fromkeys(METRICS, UNSURE) for rule in rules}
    for key, interval in changed.items():
        rule, _, metric = key.rpartition(", ")
        found[rule][metric] = interval
    return found


def test_an_interval_in_words() -> None:
    assert UNSURE.text == "+0.3 [-0.9, +1.5]"
    assert Interval(-1.25, -2.0, 0.0).text == "-1.2 [-2.0, +0.0]"


def test_what_lasts_beyond_a_threshold_is_listed() -> None:
    found = sets(
        (*RULES, CRITIC), **{"critic, exact_match": Interval(3, 1, 5), "equal labels, OF1": Interval(-2, -3, -1)}
    )
    assert verdict.beyond_threshold("mine", found, Interval(1, 0.5, 1.5)) == (
        "mine differs beyond its threshold: mAP +1.0 [+0.5, +1.5]; OF1 (equal labels) -2.0 [-3.0, -1.0]; "
        "exact match (critic) +3.0 [+1.0, +5.0]"
    )


def test_a_threshold_alone() -> None:
    found = sets(**{"p > 0.5, CF1": Interval(4, 2, 6)})
    assert verdict.beyond_threshold("mine", found, UNSURE) == (
        "mine differs by a threshold alone: no label dependency "
        "(CF1 +4.0 at p > 0.5 [+2.0, +6.0], but +0.3 [-0.9, +1.5] at equal labels an image)"
    )


def test_nothing_is_sure() -> None:
    line = (
        "mine does not differ for sure beyond its threshold: CF1 +0.3 at p > 0.5, "
        "+0.3 [-0.9, +1.5] at equal labels an image"
    )
    assert verdict.beyond_threshold("mine", sets(), UNSURE) == line
    with_critic = sets((*RULES, CRITIC))
    told = f"{line}; its critic's sets: exact match +0.3 [-0.9, +1.5]"
    assert verdict.beyond_threshold("mine", with_critic, UNSURE) == told


def test_a_gain_is_taken_apart() -> None:
    first, second, third = verdict.gain_taken_apart((40.0, 50.0, 60.0), (42.0, 51.0, 61.0), (49.0, 52.5, 61.5))
    assert first == (
        "At 0.5 the adversarial model's CF1 is +9.0 compared with the baseline's; training as long without a critic "
        "alone gives +2.0, a tuned threshold alone +10.0."
    )
    assert second == "At tuned thresholds it is +1.5 CF1 and +0.5 mAP compared with the control."
    assert third == "So 1.5 CF1 is what the critic gained in training here, on one seed."


def test_a_gain_without_ranking_or_too_small_is_none() -> None:
    nothing = (
        "So the critic in training gained nothing here (under 0.5 points, one seed) that more training or a tuned "
        "threshold does not give."
    )
    for adversarial in ((49.0, 51.4, 61.5), (49.0, 52.5, 61.0)):
        assert verdict.gain_taken_apart((40.0, 50.0, 60.0), (42.0, 51.0, 61.0), adversarial)[2] == nothing
    assert "exactly right by -0.7 points compared with" in verdict.gain_at_test_time(-0.7)


def test_a_run_beside_its_control_or_without_one() -> None:
    gains = (("CF1", "p > 0.5", 1.0), ("mAP", "", -0.5), ("exact_match", "tuned", 0.0))
    assert verdict.gain_over_control("B", "A", gains, ("x-control", "x-adversarial")) == (
        "B compared with its control A, which trained on without a critic: CF1 +1.0 (p > 0.5), mAP -0.5, exact match "
        "+0.0 (tuned). This gain comes from the critic, if it is more than chance: labeldep compare x-control "
        "x-adversarial computes its intervals."
    )
    assert verdict.lacks_control("B").startswith("B was trained with a critic, and there is no control to compare ")
    assert verdict.unfinished("A") == "A is unfinished: this is its best so far."
