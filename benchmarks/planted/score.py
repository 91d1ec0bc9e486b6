"""From label sets to the fraction of the true posterior's gain, with intervals over images and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.evaluation.bootstrap import (
    LEVEL,
    METRICS,
    Interval,
    interval,
    mean_average_precision,
    seeded_interval,
    set_scores,
    weights,
)

COLUMNS = METRICS
"""Of the tables, in order."""

Vectors = Mapping[str, NDArray[np.float64]]
"""Scores [1 + B] by metric: those of the sample itself, then those of each resample of its images."""


@dataclass(frozen=True)
class Row:
    """One system under one decision on one seed's test rows.

    Attributes:
        system, rule: what it is.
        vectors: each of METRICS.
        ranking: mAP.
        beta: the critic's weight; None without a critic.
    """

    system: str
    rule: str
    vectors: Vectors
    ranking: float
    beta: float | None = None


def score(
    system: str,
    rule: str,
    sets: NDArray[np.bool_],
    ranked: NDArray[np.float32],
    labels: NDArray[np.int8],
    seed: int,
    beta: float | None = None,
) -> Row:
    """Score sets [N, L], and the logits or probabilities [N, L] behind them, against labels [N, L].

    Rows scored with the same seed use the same resamples, so that they are paired.
    """
    w = _weights(len(labels), seed)
    ranking = float(mean_average_precision(ranked, labels, w[:1])[0])
    return Row(system, rule, set_scores(sets, labels, w), ranking, beta)


@lru_cache(maxsize=1)
def _weights(n: int, seed: int) -> NDArray[np.int32]:
    """The resamples of n images, drawn once for all rows of a seed."""
    return weights(n, seed)


def summary(
    per_seed: Sequence[Sequence[Row]], baseline: int, best: int, dependent: bool = True
) -> list[dict[str, Any]]:
    """One record per row, its scores averaged over seeds.

    Args:
        per_seed: the same rows for every seed.
        baseline, best: the rows between which a gain is measured.
        dependent: whether labels depend on each other at all; if not, there is no gain to take a fraction of.

    Returns:
        Per row: system, decision, means of METRICS and mAP; exact_match_per_seed; `gain`, of
        exact match over the baseline in points; `fraction` of the best row's gain (None where there is none to
        reach); beta by seed.
    """
    reference, top = (_mean(per_seed, row, "exact_match") for row in (baseline, best))
    there = dependent and interval(top, reference).sign > 0
    records: list[dict[str, Any]] = []
    for k, row in enumerate(per_seed[0]):
        means = {metric: _mean(per_seed, k, metric) for metric in row.vectors}
        exact = means["exact_match"]
        records.append(
            {
                "system": row.system,
                "decision": row.rule,
                **{metric: float(values[0]) for metric, values in means.items()},
                "mAP": float(np.mean([rows[k].ranking for rows in per_seed])),
                "exact_match_per_seed": [float(rows[k].vectors["exact_match"][0]) for rows in per_seed],
                "gain": interval(exact, reference).to_json(),
                "fraction": fraction(exact, reference, top).to_json() if there else None,
                "beta": [rows[k].beta for rows in per_seed] if row.beta is not None else None,
            }
        )
    return records


def fraction(mine: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> Interval:
    """(mine - low) / (high - low) of scores [1 + B], with its percentile interval."""
    values = (mine - low) / np.maximum(high - low, 1e-9)
    return interval(values, np.zeros_like(values))


def beside(per_seed: Sequence[Sequence[Row]], control: str, systems: Sequence[str]) -> list[dict[str, Any]]:
    """Every row of some systems minus the control's row of the same decision.

    Differences of METRICS and mAP, with intervals over images and seeds; `wins` are the metrics whose interval lies
    above zero.
    """
    records: list[dict[str, Any]] = []
    reference = {row.rule: k for k, row in enumerate(per_seed[0]) if row.system == control}
    for k, row in enumerate(per_seed[0]):
        if row.system not in systems or row.rule not in reference:
            continue
        other = reference[row.rule]
        found = {
            metric: seeded_interval(_stack(per_seed, k, metric), _stack(per_seed, other, metric), RESAMPLING_SEED)
            for metric in METRICS
        }
        records.append(
            {
                "system": row.system,
                "decision": row.rule,
                **{metric: difference.to_json() for metric, difference in found.items()},
                "mAP": float(np.mean([rows[k].ranking - rows[other].ranking for rows in per_seed])),
                "wins": [metric for metric, difference in found.items() if difference.low > 0],
            }
        )
    return records


def _stack(per_seed: Sequence[Sequence[Row]], row: int, metric: str) -> NDArray[np.float64]:
    """A row's scores [S, 1 + B], one line per seed."""
    return np.stack([rows[row].vectors[metric] for rows in per_seed])


def _mean(per_seed: Sequence[Sequence[Row]], row: int, metric: str) -> NDArray[np.float64]:
    """A row's scores [1 + B], averaged over seeds: resample b of the mean is made of each seed's resample b."""
    mean: NDArray[np.float64] = np.mean([rows[row].vectors[metric] for rows in per_seed], axis=0)
    return mean


INTERVAL_LEVEL = LEVEL
"""Per cent."""

RESAMPLING_SEED = 0
"""Of the draws from Student's t."""
