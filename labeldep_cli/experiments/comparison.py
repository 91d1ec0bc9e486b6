"""Differences between runs, with intervals: under several thresholds, in the ranking, and for the critic's sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DecisionConfig
from labeldep_cli.evaluation.bootstrap import (
    LEVEL,
    METRICS,
    Interval,
    exact_match,
    interval,
    mean_average_precision,
    set_scores,
    weights,
)
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.thresholds import DEFAULT_THRESHOLD
from labeldep_cli.experiments.rules import CRITIC, CRITIC_AT_HALF, OWN, OWN_AT_HALF, RULES
from labeldep_cli.experiments.scores import SplitPredictions
from labeldep_cli.experiments.verdict import beyond_threshold
from labeldep_cli.runs.run import Run

_Scores = dict[str, NDArray[np.float64]]
"""Scores by metric, one for each weighting of the images: [W]."""


SEEN, UNSEEN = "seen", "unseen"
"""Images whose true label set occurs in train, and the others."""


@dataclass(frozen=True)
class Part:
    """The difference of exact match on some of the images.

    Attributes:
        n_images: their number; an image without a known label is in no part.
        exact_match: the difference by rule; empty if there are no images.
    """

    n_images: int
    exact_match: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """The number of images, and the difference by rule, or None if there are no images."""
        intervals = {rule: i.to_json() for rule, i in self.exact_match.items()}
        return {"n_images": self.n_images, "exact_match": intervals or None}


@dataclass(frozen=True)
class Difference:
    """The difference of a run from the first one.

    Attributes:
        run: folder of the run.
        sets: differences of the scores of predicted sets, by rule (those of RULES; with a critic also CRITIC and
            CRITIC_AT_HALF, with a joint head alone OWN and OWN_AT_HALF) and metric.
        ranking: the difference of mAP.
        labels_per_image: this run's mean number of predicted labels, by rule.
        by_seen: exact match on images whose true set occurs in the train rows of both runs ("seen") and in those of
            neither ("unseen"); empty if a run has no record of its train rows.
    """

    run: Path
    sets: Mapping[str, Mapping[str, Interval]]
    ranking: Interval
    labels_per_image: Mapping[str, float]
    by_seen: Mapping[str, Part] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """The part of the difference that no threshold gives, in one line."""
        return beyond_threshold(self.run.name, self.sets, self.ranking)


@dataclass(frozen=True)
class Comparison:
    """Runs compared with the first of them.

    Attributes:
        dataset, split, n_images: what they are compared on.
        reference: folder of the first run.
        labels_per_image: the number of labels per image that the rule "equal labels" gives every run: the true number
            on val.
        differences: those of the other runs.
    """

    dataset: str
    split: str
    n_images: int
    reference: Path
    labels_per_image: float
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """One object; differences in points, with the bounds of their intervals."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "n_images": self.n_images,
            "reference": str(self.reference),
            "level": LEVEL,
            "equal_labels_per_image": self.labels_per_image,
            "differences": [
                {
                    "run": str(difference.run),
                    "mAP": difference.ranking.to_json(),
                    "sets": {
                        rule: {metric: i.to_json() for metric, i in metrics.items() if metric != "labels_per_image"}
                        | {"labels_per_image": difference.labels_per_image[rule]}  # the run's value, not a difference
                        for rule, metrics in difference.sets.items()
                    },
                    **{part: found.to_json() for part, found in difference.by_seen.items()},
                    "verdict": difference.verdict,
                }
                for difference in self.differences
            ],
        }


def differences(predictions: Iterable[SplitPredictions], seed: int) -> Comparison:
    """Compare runs with the first one.

    Args:
        predictions: those of two or more runs for the same rows; read one after the other, each once.
        seed: of the resampling.
    """
    runs: list[Run] = []
    scores: list[_RunScores] = []
    target = 0.0
    for predicted in predictions:
        if not scores:
            target = float(predicted.run.facts["val"]["true_labels_per_image"])
            dataset, split, n_images = predicted.project.dataset.name, predicted.split, len(predicted.logits)
        runs.append(predicted.run)
        scores.append(_score(predicted, target, seed, scores[0] if scores else None))
    others = tuple(_difference(run, mine, scores[0]) for run, mine in zip(runs[1:], scores[1:], strict=True))
    return Comparison(dataset, split, n_images, runs[0].folder, target, others)


def _score(predicted: SplitPredictions, target: float, seed: int, reference: _RunScores | None) -> _RunScores:
    """Score a run under every rule; `reference` is None for the reference itself, whose own sets are not compared."""
    w = weights(len(predicted.logits), seed)
    scores = _RunScores(predicted.logits, predicted.inputs.labels.numpy(), w, predicted.seen)
    scores.add_thresholds(float(predicted.run.facts["thresholds"]["tuned"]), target)
    critic = predicted.run.facts["critic"] is not None
    if reference is not None and (critic or predicted.run.joint):
        names = (CRITIC, CRITIC_AT_HALF) if critic else (OWN, OWN_AT_HALF)
        scores.add_sets(names, predicted.decided(DecisionConfig("rerank"))[1].sets, reference)
    return scores


class _RunScores:
    """A run's scores by rule under each weighting of the images, and the scores of the reference for comparison.

    Args:
        logits: [N, L].
        labels: int8 [N, L].
        w: weights [W, N].
        seen: whether the true set of each image occurs in the run's train rows, bool [N]; None if it is unknown.
    """

    def __init__(
        self,
        logits: NDArray[np.float32],
        labels: NDArray[np.int8],
        w: NDArray[np.int32],
        seen: NDArray[np.bool_] | None,
    ) -> None:
        self.p = probabilities(logits)
        self.labels = labels
        self.w = w
        self.seen = seen
        self.predicted: dict[str, NDArray[np.bool_]] = {}
        self.compared: dict[str, NDArray[np.bool_]] = {}  # the reference's sets, in the reference's label order
        self.ranking = mean_average_precision(logits, labels, w)
        self.sets: dict[str, _Scores] = {}
        self.references: dict[str, _Scores] = {}
        self.labels_per_image: dict[str, float] = {}

    def add_thresholds(self, tuned: float, labels_per_image: float) -> None:
        """Score the sets of RULES."""
        thresholds = (DEFAULT_THRESHOLD, tuned, threshold_for(self.p, labels_per_image))
        for rule, threshold in zip(RULES, thresholds, strict=True):
            self._add(rule, self.p > threshold)

    def add_sets(self, names: tuple[str, str], chosen: NDArray[np.bool_], reference: _RunScores) -> None:
        """Score the sets [N, L] that a critic or a joint head chose, and those of the reference to compare them with.

        Args:
            names: of the rules at equal labels per image, and at 0.5.
            chosen: the sets.
            reference: the scores of the reference.
        """
        equal, at_half = names
        for rule in names:
            self._add(rule, chosen)
        threshold = threshold_for(reference.p, self.labels_per_image[equal])
        self.compared[equal] = reference.p > threshold
        self.references[equal] = set_scores(self.compared[equal], reference.labels, self.w)
        self.compared[at_half] = reference.predicted["p > 0.5"]
        self.references[at_half] = reference.sets["p > 0.5"]

    def _add(self, rule: str, predicted: NDArray[np.bool_]) -> None:
        self.predicted[rule] = predicted
        self.sets[rule] = set_scores(predicted, self.labels, self.w)
        self.labels_per_image[rule] = float(predicted.sum(axis=1).mean())


def threshold_for(p: NDArray[np.float64], labels_per_image: float) -> float:
    """The threshold that gives a number of labels per image; it depends on the predictions only, not on the truth."""
    count = min(max(round(labels_per_image * len(p)), 1), p.size - 1)
    ranked = np.partition(p, (p.size - count - 1, p.size - count), axis=None)
    return float((ranked[-count] + ranked[-count - 1]) / 2)


def _difference(run: Run, mine: _RunScores, first: _RunScores) -> Difference:
    references = {**first.sets, **mine.references}
    sets = {
        rule: {metric: interval(scores[metric], references[rule][metric]) for metric in METRICS}
        for rule, scores in mine.sets.items()
    }
    ranking = interval(mine.ranking, first.ranking)
    return Difference(run.folder, sets, ranking, mine.labels_per_image, _by_seen(mine, first))


def _by_seen(mine: _RunScores, first: _RunScores) -> dict[str, Part]:
    """The differences of exact match on images with seen and with unseen label sets."""
    if mine.seen is None or first.seen is None:
        return {}
    known = (mine.labels >= 0).any(axis=1)
    parts = {SEEN: known & mine.seen & first.seen, UNSEEN: known & ~mine.seen & ~first.seen}
    return {name: _on_rows(rows, mine, first) for name, rows in parts.items()}


def _on_rows(rows: NDArray[np.bool_], mine: _RunScores, first: _RunScores) -> Part:
    if not rows.any():
        return Part(0, {})
    w, compared = mine.w[:, rows], {**first.predicted, **mine.compared}
    found = {
        rule: interval(
            exact_match(predicted[rows], mine.labels[rows], w),
            exact_match(compared[rule][rows], first.labels[rows], w),
        )
        for rule, predicted in mine.predicted.items()
    }
    return Part(int(rows.sum()), found)
