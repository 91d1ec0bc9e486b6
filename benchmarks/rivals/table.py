"""The table of rivals, the settings that each may have, and how a setting is chosen: inside train, or on val."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from benchmarks.rivals import chains, powerset
from benchmarks.rivals.answers import Answer, right
from benchmarks.rivals.powerset import Sets, Setting
from benchmarks.rivals.rows import Data, Part

FOLDS = 5

CV_WORK = 2_000_000
"""Rows x sets of train up to which settings are chosen by cross-validation; beyond it on val, by one fit each."""

Method = Callable[[Part, list[NDArray[np.float32]], Setting, int], list[Answer]]
"""(train, features to answer for, setting, seed) -> an answer for each."""


@dataclass(frozen=True)
class Rival:
    """A row of RIVALS.

    Attributes:
        name: as in the tables.
        method: trains on some rows and answers for others.
        settings: those to choose from; a rival without any has one empty setting.
        random: whether the seed matters.
        most_sets: with more label sets in train the rival is left out; None for no limit.
    """

    name: str
    method: Method
    settings: tuple[Setting, ...] = ({},)
    random: bool = False
    most_sets: int | None = None


def _of_c(*values: float) -> tuple[Setting, ...]:
    return tuple({"C": value} for value in values)


RIVALS = (
    Rival("powerset, forest", powerset.forest, random=True),
    Rival("powerset, extra trees", powerset.extra_trees, random=True),
    Rival("powerset, logistic", powerset.logistic, _of_c(0.001, 0.01, 0.1, 1)),
    Rival(
        "powerset, RBF-SVM",
        powerset.svm,
        tuple({"C": c, "gamma x F": gamma} for c in (1.0, 3.0, 10.0) for gamma in (0.3, 1.0)),
        most_sets=powerset.SVM_SETS,
    ),
    Rival("20 neighbours, vote over sets", powerset.neighbours),
    Rival("classifier chains, beam", chains.chains, _of_c(0.001, 0.01, 0.1, 1), random=True),
    Rival("binary relevance, logistic", chains.relevance, _of_c(0.001, 0.01, 0.1, 1)),
)


def choose(rival: Rival, data: Data) -> Setting:
    """The setting with the best exact match, by cross-validation inside train, or on val; of equal ones the first.

    Chains are compared by one chain each, which costs a tenth.
    """
    if len(rival.settings) == 1:
        return rival.settings[0]
    n_sets = len(Sets.of(data.train.y).sets)
    inside = len(data.train.y) * n_sets <= CV_WORK
    quick = {"chains": 1.0} if rival.method is chains.chains else {}
    found = [_exact_match(rival.method, {**setting, **quick}, data, inside) for setting in rival.settings]
    return rival.settings[int(np.argmax(found))]


def _exact_match(method: Method, setting: Setting, data: Data, inside: bool) -> float:
    if not inside:
        return float(right(method(data.train, [data.val.x], setting, 0)[0].sets, data.val.y).mean())
    hits = []
    for kept, held_out in KFold(FOLDS, shuffle=True, random_state=0).split(data.train.x):
        other = data.train.at(held_out)
        hits.append(right(method(data.train.at(kept), [other.x], setting, 0)[0].sets, other.y))
    return float(np.concatenate(hits).mean())


def limits(rival: Rival, data: Data) -> str:
    """What was left out for its cost, in words; empty if nothing was."""
    words = []
    if rival.method is chains.chains and (count := chains.number_of_chains(data.train.y.shape[1])) < chains.CHAINS:
        words.append(f"{count} chains")
    is_forest = rival.method in (powerset.forest, powerset.extra_trees)
    classes, count = powerset.forest_classes(data.train.y)
    if not is_forest:
        classes = Sets.of(data.train.y)
    if rival.name.startswith("powerset") and len(classes.sets) < classes.all:
        words.append(f"{len(classes.sets):,} of {classes.all:,} sets")
    if is_forest and count < powerset.TREES:
        words.append(f"{count} trees")
    return ", ".join(words)
