"""Which confidence a set needs to be accepted without a look at it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from labeldep_cli.config import AcceptConfig, DecisionConfig
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.risk import RiskCoverage, interval
from labeldep_cli.labelling.labeller import Labeller
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.decisions import confidence_facts, rule_name
from labeldep_cli.runs.run import Run

FEWEST = 10
"""A limit must accept at least this number of val's rows: the share that is right among fewer says nothing."""


class Acceptance(NamedTuple):
    """The limit of accepted sets.

    Attributes:
        limit: the smallest confidence of an accepted set, 0..1.
        words: what it accepts on val; empty if the user has set the limit.
    """

    limit: float
    words: str


def acceptance_of(config: AcceptConfig, decision: DecisionConfig, run: Run) -> Acceptance | None:
    """The limit that a user asks for; None if all sets are accepted.

    `auto_accept` takes the lowest confidence of val's rows at which the sets from there up are right often enough.

    Raises:
        CheckpointError: the run has no confidences of val.
        LabeldepError: it has none for this rule; or val never reaches the precision.
    """
    if config.auto_accept is None:
        return None if config.min_confidence is None else Acceptance(config.min_confidence, "")
    val, precision = _val(decision, run), config.auto_accept
    curve = RiskCoverage(*(np.array(val[name]) for name in ("thresholds", "accepted", "right")))
    rows = int(curve.accepted[-1]) if len(curve.accepted) else 0
    asked = f"--auto-accept {precision:g}"
    if rows < FEWEST:
        raise LabeldepError(
            f"{asked} needs at least {FEWEST} rows of val with known labels; {run.folder} has {rows}",
            "Train with a larger --val-fraction, or set a limit yourself: --min-confidence 0.9",
        )
    index = curve.index_at(precision, FEWEST)
    share = curve.right / curve.accepted
    if index is None:
        best = int(np.argmax(np.where(curve.accepted >= FEWEST, share, -1.0)))
        raise LabeldepError(
            f"{asked}: of val's sets of {run.folder} at most {100 * share[best]:.1f} % are right, those of the "
            f"{curve.accepted[best]} most confident of {rows} rows",
            "Ask for a lower precision, or set a limit yourself: --min-confidence 0.9",
        )
    accepted, right = int(curve.accepted[index]), int(curve.right[index])
    low, high = interval(right, accepted)
    words = (
        f"accepting sets with a confidence of at least {curve.thresholds[index]:.4g}; of val's {rows} rows "
        f"these are {accepted} ({curve.coverage[index]:.1f} %), {right} of them right: {100 * share[index]:.1f} % "
        f"[{100 * low:.1f}, {100 * high:.1f}]"
    )
    return Acceptance(float(curve.thresholds[index]), words)


def limited(labeller: Labeller, acceptance: Acceptance | None, reporter: Reporter) -> Labeller:
    """A labeller whose predictions say whether they are accepted, with a note on what the limit accepts on val."""
    if acceptance is None:
        return labeller
    if acceptance.words:
        reporter.note(acceptance.words)
    return replace(labeller, limit=acceptance.limit)


def _val(decision: DecisionConfig, run: Run) -> dict[str, Any]:
    """The confidences on val that the run has stored for a rule."""
    facts = confidence_facts(decision, run)
    if facts is None:
        raise CheckpointError(
            f"{run.folder} has no confidences of val: it is unfinished, or an earlier version of labeldep made it",
            "Finish or repeat its training (the same command, with --fresh), or set a limit: --min-confidence 0.9",
        )
    val: dict[str, Any] | None = facts["val"].get(rule_name(decision, run))
    if val is None:
        raise LabeldepError(
            f"--auto-accept does not work with this rule: {run.folder} has no confidences of val for it",
            "Leave out --top-k, --beta and numbers for --threshold, or set a limit yourself: --min-confidence 0.9",
        )
    return val
