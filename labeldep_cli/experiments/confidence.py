"""What the confidences of a run's sets are worth on a split, beside those of independent labels. N images, L labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DecisionConfig
from labeldep_cli.evaluation.decisions import Decided
from labeldep_cli.evaluation.risk import exactly_right, scores
from labeldep_cli.runs.decisions import calibrated_as, confidence_facts, temperature_of
from labeldep_cli.runs.run import Run


def confidence_scores(
    run: Run, decision: DecisionConfig, decided: Decided, independent: Decided, labels: NDArray[np.int8]
) -> dict[str, Any]:
    """The JSON value of the key `confidence` of `eval`.

    Args:
        run: the run that made the sets.
        decision: the rule by which it made them.
        decided: the sets.
        independent: the sets p > 0.5 of the same run, with products of independent probabilities.
        labels: int8 [N, L]; -1 where unknown.

    Returns:
        The scores of `evaluation.risk.scores`; kind and temperature of the confidence, and whether it was chosen on
        val; under `independent` the same for the independent sets.
    """
    return {
        **_one(run, decision, decided, labels),
        "independent": _one(run, DecisionConfig(), independent, labels),
    }


def _one(run: Run, decision: DecisionConfig, decided: Decided, labels: NDArray[np.int8]) -> dict[str, Any]:
    facts = confidence_facts(decision, run)
    scored, right = exactly_right(decided.sets, labels)
    return {
        "rule": calibrated_as(decision),
        "temperature": temperature_of(decision, run),
        "calibrated": facts is not None and facts["why"] is None,
        **scores(decided.confidence[scored], right),
    }
