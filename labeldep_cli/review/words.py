"""What speaks for and against a suspect, in sentences."""

from __future__ import annotations

from labeldep_cli.evaluation.suspects import Suspect
from labeldep_cli.text import visible

_WEAK = 0.05
"""Evidence of the critic, in log-odds, below which it says nothing."""

_BLIND = 0.3
"""Held-out average precision of a label below which the networks hardly see it."""


def sentences(suspect: Suspect) -> list[str]:
    """The evidence about a suspect, the strongest kind first."""
    label = visible(suspect.label)
    found = [f"From the image alone, {label} is {_percent(suspect.probability)} probable."]
    if suspect.critic is not None:
        found.append(_of_critic(suspect.critic))
    if suspect.pair is not None:
        pair = suspect.pair
        found.append(f"Of {pair.of:,} images with {visible(pair.label)}, {pair.images:,} have {label}.")
    if suspect.kind == "rare combination":
        found.append("The image does not speak against what is written: perhaps the labels are right, and only rare.")
    if suspect.label_ap is not None and suspect.label_ap < _BLIND:
        found.append(f"The networks hardly see {label} (average precision {_percent(suspect.label_ap)}).")
    return found


def _of_critic(evidence: float) -> str:
    if abs(evidence) <= _WEAK:
        return "With the other labels, the critic finds it neither more nor less real than its absence."
    compared = f"{'more' if evidence > 0 else 'less'} real than its absence"
    return f"With the other labels, the critic finds it {compared} ({evidence:+.1f})."


def _percent(share: float) -> str:
    if share < 0.005:
        return "less than 1 %"
    return "more than 99 %" if share > 0.995 else f"{100 * share:.0f} %"
