"""Differences between runs in words, for `compare`, `report` and `demo`.

Numbers are points of a score in 0..100, with their sign.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from labeldep_cli.evaluation.bootstrap import METRICS, Interval
from labeldep_cli.experiments.rules import CRITIC, OWN

BEYOND_THRESHOLD = (
    ("equal labels", "CF1"),
    ("equal labels", "OF1"),
    ("tuned", "exact_match"),
    (CRITIC, "OF1"),
    (CRITIC, "exact_match"),
    (OWN, "OF1"),
    (OWN, "exact_match"),
)
"""Rules and metrics in which, as in mAP, no threshold and no shift towards more labels can give a gain."""

MIN_GAIN = 0.5
"""Points of CF1. A smaller gain of one seed on a few hundred images means nothing."""

Point = tuple[float, float, float]
"""CF1 at 0.5, CF1 at the tuned threshold, mAP."""


def beyond_threshold(run: str, sets: Mapping[str, Mapping[str, Interval]], ranking: Interval) -> str:
    """The part of a run's difference from the reference that no threshold gives, in one line without a full stop.

    Args:
        run: its name.
        sets: the differences of the scores of predicted sets, by rule and metric.
        ranking: the difference of mAP.
    """
    candidates = {"mAP": ranking} | {
        f"{_name(metric)} ({rule})": sets[rule][metric] for rule, metric in BEYOND_THRESHOLD if rule in sets
    }
    significant = [f"{name} {interval.text}" for name, interval in candidates.items() if interval.sign != 0]
    if significant:
        return f"{run} differs beyond its threshold: {'; '.join(significant)}"
    half, equal = sets["p > 0.5"]["CF1"], sets["equal labels"]["CF1"]
    at_half, at_equal = f"CF1 {half.difference:+.1f} at p > 0.5", f"{equal.text} at equal labels an image"
    if any(sets["p > 0.5"][metric].sign != 0 for metric in METRICS):
        bounds = half.text.partition(" ")[2]
        return f"{run} differs by a threshold alone: no label dependency ({at_half} {bounds}, but {at_equal})"
    critic = f"; its critic's sets: exact match {sets[CRITIC]['exact_match'].text}" if CRITIC in sets else ""
    return f"{run} does not differ for sure beyond its threshold: {at_half}, {at_equal}{critic}"


def gain_taken_apart(baseline: Point, control: Point, adversarial: Point) -> tuple[str, str, str]:
    """Split a gain on one seed into its parts (docs/protocol.md: "A gain is three gains").

    Returns:
        Three sentences: the gain at 0.5, and how much of it more training alone or a threshold alone gives; the
        remaining gain at tuned thresholds; what the critic gained.
    """
    at_half = adversarial[0] - baseline[0]
    training, threshold = control[0] - baseline[0], baseline[1] - baseline[0]
    remaining = adversarial[1] - control[1]
    ranking = adversarial[2] - control[2]
    first = (
        f"At 0.5 the adversarial model's CF1 is {at_half:+.1f} compared with the baseline's; "
        f"training as long without a critic alone gives {training:+.1f}, a tuned threshold alone {threshold:+.1f}."
    )
    second = f"At tuned thresholds it is {remaining:+.1f} CF1 and {ranking:+.1f} mAP compared with the control."
    if remaining >= MIN_GAIN and ranking > 0:
        third = f"So {remaining:.1f} CF1 is what the critic gained in training here, on one seed."
    else:
        third = (
            f"So the critic in training gained nothing here (under {MIN_GAIN} points, one seed) "
            "that more training or a tuned threshold does not give."
        )
    return first, second, third


def gain_at_test_time(exact_match: float) -> str:
    """The gain of a critic at test time, as a sentence.

    Args:
        exact_match: exact match of the critic's sets minus that of the baseline's better threshold.
    """
    return (
        "At test time, where it chooses whole label sets (--critic nce, --decision rerank), a critic changes the share "
        f"of images that are exactly right by {exact_match:+.1f} points compared with the baseline's better threshold."
    )


def gain_over_control(run: str, control: str, gains: Sequence[tuple[str, str, float]], folders: tuple[str, str]) -> str:
    """The gain of a run over a control that trained as long without a critic, in two sentences.

    Args:
        run, control: their names on the page.
        gains: score, decision rule (empty if the score needs none) and difference.
        folders: those of the control and of the run, for the command that computes intervals.
    """
    parts = ", ".join(f"{_name(score)} {gain:+.1f}{f' ({rule})' if rule else ''}" for score, rule, gain in gains)
    command = shlex.join(["labeldep", "compare", *folders])
    return (
        f"{run} compared with its control {control}, which trained on without a critic: {parts}. This gain comes from "
        f"the critic, if it is more than chance: {command} computes its intervals."
    )


def lacks_control(run: str) -> str:
    """A warning for a run with a critic, if there is no control."""
    return (
        f"{run} was trained with a critic, and there is no control to compare it with: its gain over other runs may "
        "come from longer training alone. labeldep adversarial --critic none trains the control."
    )


def unfinished(run: str) -> str:
    """A warning for an unfinished run."""
    return f"{run} is unfinished: this is its best so far."


def _name(metric: str) -> str:
    return metric.replace("_", " ")
