"""What may be said of a difference between runs, in words: all that `compare`, `report` and `demo` say.

Numbers are points of a score in 0..100, with their sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from labeldep_cli.evaluation.bootstrap import METRICS, Interval
from labeldep_cli.experiments.rules import CRITIC

SURVIVES = (
    ("equal labels", "CF1"),
    ("equal labels", "OF1"),
    ("tuned", "exact_match"),
    (CRITIC, "OF1"),
    (CRITIC, "exact_match"),
)
"""What, beside mAP, no threshold and no shift towards more labels can give."""

TELLING = 0.5
"""Points of CF1 below which one seed on a few hundred images tells nothing."""

Point = tuple[float, float, float]
"""CF1 at 0.5, CF1 at the tuned threshold, mAP."""


def beyond_threshold(run: str, sets: Mapping[str, Mapping[str, Interval]], ranking: Interval) -> str:
    """What of a run's difference from the reference no threshold gives, in one line without a full stop.

    Args:
        run: its name.
        sets: by rule and metric, the difference of scores of predicted sets.
        ranking: the difference of mAP.
    """
    lasting = {"mAP": ranking} | {
        f"{_name(metric)} ({rule})": sets[rule][metric] for rule, metric in SURVIVES if rule in sets
    }
    sure = [f"{name} {interval.text}" for name, interval in lasting.items() if interval.sign != 0]
    if sure:
        return f"{run} differs beyond its threshold: {'; '.join(sure)}"
    half, equal = sets["p > 0.5"]["CF1"], sets["equal labels"]["CF1"]
    at_half, at_equal = f"CF1 {half.difference:+.1f} at p > 0.5", f"{equal.text} at equal labels an image"
    if any(sets["p > 0.5"][metric].sign != 0 for metric in METRICS):
        bounds = half.text.partition(" ")[2]
        return f"{run} differs by a threshold alone: no label dependency ({at_half} {bounds}, but {at_equal})"
    critic = f"; its critic's sets: exact match {sets[CRITIC]['exact_match'].text}" if CRITIC in sets else ""
    return f"{run} does not differ for sure beyond its threshold: {at_half}, {at_equal}{critic}"


def gain_taken_apart(baseline: Point, control: Point, adversarial: Point) -> tuple[str, str, str]:
    """Take a gain on one seed apart (docs/protocol.md: "A gain is three gains").

    Returns:
        Three sentences: the gain at 0.5 and how much of it more training or a threshold alone gives; what is left of it
        at tuned thresholds; what the critic gained.
    """
    at_half = adversarial[0] - baseline[0]
    training, threshold = control[0] - baseline[0], baseline[1] - baseline[0]
    left = adversarial[1] - control[1]
    ranking = adversarial[2] - control[2]
    first = (
        f"At 0.5 the adversarial model's CF1 is {at_half:+.1f} beside the baseline's; "
        f"training as long without a critic alone gives {training:+.1f}, a tuned threshold alone {threshold:+.1f}."
    )
    second = f"At tuned thresholds it is {left:+.1f} CF1 and {ranking:+.1f} mAP beside the control."
    if left >= TELLING and ranking > 0:
        third = f"So {left:.1f} CF1 is what the critic gained in training here, on one seed."
    else:
        third = (
            f"So the critic in training gained nothing here (under {TELLING} points, one seed) "
            "that more training or a tuned threshold does not give."
        )
    return first, second, third


def gain_at_test_time(exact_match: float) -> str:
    """What a critic gains at test time, as a sentence.

    Args:
        exact_match: of its sets, less that of the baseline's better threshold.
    """
    return (
        "At test time, where it chooses whole label sets (--critic nce, --decision rerank), a critic changes the share "
        f"of images that are exactly right by {exact_match:+.1f} points beside the baseline's better threshold."
    )


def gain_over_control(run: str, control: str, gains: Sequence[tuple[str, str, float]], folders: tuple[str, str]) -> str:
    """What a run has over a control that trained as long without a critic, in two sentences.

    Args:
        run, control: as the page calls them.
        gains: score, decision (empty where the score has none) and difference.
        folders: of the control and of the run, for the command that puts intervals to it.
    """
    listed = ", ".join(f"{_name(score)} {gain:+.1f}{f' ({rule})' if rule else ''}" for score, rule, gain in gains)
    return (
        f"{run} beside its control {control}, which trained on without a critic: {listed}. That much is "
        f"the critic's, if it is more than chance: labeldep compare {' '.join(folders)} puts intervals to it."
    )


def lacks_control(run: str) -> str:
    """What a reader must know of a run with a critic where no control was trained."""
    return (
        f"{run} was trained with a critic, and no control stands beside it: what it has over other runs may "
        "come from training on alone. labeldep adversarial --critic none trains the control."
    )


def unfinished(run: str) -> str:
    """What a reader must know of a run that has not come to its end."""
    return f"{run} is unfinished: this is its best so far."


def _name(metric: str) -> str:
    return metric.replace("_", " ")
