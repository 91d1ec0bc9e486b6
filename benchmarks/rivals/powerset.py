"""Rivals whose classes are the label sets of train (label powerset): each answers with one of these sets.

N rows, F features, L labels, K sets.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.rivals.answers import Answer
from benchmarks.rivals.rows import Part

MAX_SETS = 2500
"""Only the most frequent label sets of train are classes, and only their rows are trained on (Read et al., 2008)."""

SVM_SETS = 500
"""An SVM for each pair of sets: 125,000 of them. With more sets the SVM is left out."""

TREES, FEWEST_TREES = 500, 10
TREE_WORK = 1_000_000_000
"""Trees x rows x sets: a split of a tree costs as much. With more sets there are fewer trees, at least FEWEST_TREES."""

FOREST_CELLS = 10_000_000
"""Rows x sets of a forest; beyond it only as many of the most frequent sets are classes as fit."""

FOREST_BYTES = 1_000_000_000
"""Of the trees that are held at once. A leaf holds a float64 for each set, and there may be a leaf for each row."""

BLOCK = 100
"""Rows for which an SVM computes the scores of all pairs of sets at a time."""

NEIGHBOURS = 20

ITERATIONS = 100
"""At most, of a logistic regression."""

Setting = dict[str, float]


@dataclass(frozen=True)
class Sets:
    """The classes.

    Attributes:
        sets: bool [K, L].
        of_row: the class of each kept row, int64 [M].
        rows: the kept rows, int64 [M].
        all: number of different sets in train.
    """

    sets: NDArray[np.bool_]
    of_row: NDArray[np.int64]
    rows: NDArray[np.int64]
    all: int

    @staticmethod
    def of(y: NDArray[np.int8], most: int = MAX_SETS, cells: int | None = None) -> Sets:
        """The most frequent sets of labels [N, L]; an unknown label counts as absent.

        Args:
            y: the labels.
            most: the largest number of sets.
            cells: the largest product of rows and sets; None for any.
        """
        unique, of_row, counts = np.unique(y > 0, axis=0, return_inverse=True, return_counts=True)
        of_row = of_row.ravel()
        order = np.argsort(-counts, kind="stable")
        if cells is not None:
            product = np.cumsum(counts[order]) * np.arange(1, len(order) + 1)
            most = min(most, max(int((product <= cells).sum()), 1))
        kept = np.sort(order[:most])
        number = np.full(len(unique), -1)
        number[kept] = np.arange(len(kept))
        rows = np.flatnonzero(number[of_row] >= 0)
        return Sets(unique[kept], number[of_row[rows]], rows, len(unique))


def forest_classes(y: NDArray[np.int8]) -> tuple[Sets, int]:
    """The classes of a forest over labels [N, L], and its number of trees."""
    classes = Sets.of(y, cells=FOREST_CELLS)
    return classes, trees(len(classes.rows), len(classes.sets))


def trees(n_rows: int, n_sets: int) -> int:
    """How many trees a forest has."""
    return int(np.clip(TREE_WORK // max(n_rows * n_sets, 1), FEWEST_TREES, TREES))


def forest(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """scikit-learn's random forest over label sets."""
    return _grown(RandomForestClassifier, train, xs, seed)


def extra_trees(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """scikit-learn's extremely randomised trees over label sets."""
    return _grown(ExtraTreesClassifier, train, xs, seed)


def _grown(kind: Any, train: Part, xs: list[NDArray[np.float32]], seed: int) -> list[Answer]:  # noqa: ANN401
    """A forest in parts, whose votes are added: all trees at once would not fit in memory."""
    classes, n = forest_classes(train.y)
    x = train.x[classes.rows]
    at_once = max(FOREST_BYTES // (2 * 8 * len(x) * len(classes.sets)), 1)
    votes = [np.zeros((len(one), len(classes.sets))) for one in xs]
    for part, start in enumerate(range(0, n, at_once)):
        count = min(at_once, n - start)
        with quiet():
            grown = kind(count, random_state=1000 * seed + part, n_jobs=-1).fit(x, classes.of_row)
        for vote, one in zip(votes, xs, strict=True):
            vote += count * grown.predict_proba(one)
    return [_most_probable(vote / n, classes) for vote in votes]


def logistic(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """Multinomial logistic regression over label sets, features standardised."""
    classes = Sets.of(train.y)
    scale, x = _standardised(train.x[classes.rows])
    with quiet():
        model = LogisticRegression(C=setting["C"], max_iter=ITERATIONS).fit(x, classes.of_row)
    return [_most_probable(model.predict_proba(scale.transform(one)), classes) for one in xs]


def svm(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """An SVM with an RBF kernel over label sets, features standardised; it has no confidence."""
    classes = Sets.of(train.y)
    scale, x = _standardised(train.x[classes.rows])
    model = SVC(C=setting["C"], gamma=setting["gamma x F"] / x.shape[1], decision_function_shape="ovr")
    with quiet():
        model.fit(x, classes.of_row)
    answers = []
    for one in xs:
        best = [model.decision_function(block) for block in _blocks(scale.transform(one))]
        chosen = np.concatenate([np.argmax(scores, axis=1) if scores.ndim > 1 else scores > 0 for scores in best])
        answers.append(Answer(classes.sets[chosen.astype(int)]))
    return answers


def neighbours(train: Part, xs: list[NDArray[np.float32]], setting: Setting, seed: int) -> list[Answer]:
    """A vote of the nearest rows of train over their whole sets; of sets with equal votes the nearer one wins."""
    classes = Sets.of(train.y, most=len(train.y))
    scale, x = _standardised(train.x)
    count = min(NEIGHBOURS, len(x))
    index = NearestNeighbors(n_neighbors=count).fit(x)
    answers = []
    for one in xs:
        distance, rows = index.kneighbors(scale.transform(one))
        of_neighbour = classes.of_row[rows]  # [N, count]
        same = of_neighbour[:, :, None] == of_neighbour[:, None, :]
        nearness = 1 / (1 + distance)  # below 1; a thousandth of it decides nothing but equal votes
        weight = (same * (1 + 1e-3 / count * nearness[:, None, :])).sum(axis=2)
        best = weight.argmax(axis=1)
        line = np.arange(len(best))
        answers.append(Answer(classes.sets[of_neighbour[line, best]], same[line, best].mean(axis=1)))
    return answers


@contextmanager
def quiet() -> Iterator[None]:
    """Without warnings about ITERATIONS, and about nearly as many label sets as rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "The number of unique classes")
        yield


def _standardised(x: NDArray[np.float32]) -> tuple[StandardScaler, NDArray[np.float32]]:
    scale = StandardScaler().fit(x)
    return scale, scale.transform(x)


def _most_probable(p: NDArray[np.float64], classes: Sets) -> Answer:
    return Answer(classes.sets[p.argmax(axis=1)], p.max(axis=1).astype(np.float64))


def _blocks(x: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    yield from (x[start : start + BLOCK] for start in range(0, len(x), BLOCK))
