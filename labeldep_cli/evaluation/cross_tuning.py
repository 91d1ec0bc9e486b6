"""Tuned thresholds judged on the rows that they are tuned on: each fold is decided by thresholds of the others.

Scored on the rows of their own tuning, thresholds look better than they are, and per-label ones most of all. N rows, L
labels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import TUNED, DecisionConfig
from labeldep_cli.evaluation.evaluate import probabilities, thresholds_for
from labeldep_cli.evaluation.thresholds import DecisionRule

FOLDS = 10


def is_tuned(config: DecisionConfig) -> bool:
    """Whether a decision uses thresholds that are tuned on val."""
    return config.rule == "threshold" and config.threshold in TUNED


def decide_cross_tuned(
    logits: NDArray[np.float32], labels: NDArray[np.int8], config: DecisionConfig
) -> NDArray[np.bool_]:
    """The label sets of a decision with tuned thresholds, each row's thresholds being tuned without its fold.

    Args:
        logits: of validation rows, [N, L].
        labels: int8 [N, L]; -1 where unknown.
        config: a decision for which `is_tuned`.

    Returns:
        bool [N, L].
    """
    p = probabilities(logits)
    fold = np.random.default_rng(0).permutation(len(p)) % FOLDS
    sets = np.zeros(p.shape, np.bool_)
    for k in np.unique(fold):
        mine = fold == k
        sets[mine] = DecisionRule.of(config, thresholds_for(p[~mine], labels[~mine])).decide(p[mine])
    return sets
