"""The difference between runs, taken apart, with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DecisionConfig
from labeldep_cli.evaluation.bootstrap import (
    LEVEL,
    METRICS,
    Interval,
    interval,
    mean_average_precision,
    set_scores,
    weights,
)
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.thresholds import DEFAULT_THRESHOLD
from labeldep_cli.experiments.rules import CRITIC, CRITIC_AT_HALF, RULES
from labeldep_cli.experiments.scores import SplitPredictions
from labeldep_cli.experiments.verdict import beyond_threshold
from labeldep_cli.runs.run import Run

_Scores = dict[str, NDArray[np.float64]]
"""By metric, under each weighting of the images [W]."""


@dataclass(frozen=True)
class Difference:
    """A run beside the first one.

    Attributes:
        run: its folder.
        sets: by rule (those of RULES; with a critic also CRITIC and CRITIC_AT_HALF) and metric, the difference of
            scores of predicted sets.
        ranking: of mAP.
        labels_per_image: by rule, of this run.
    """

    run: Path
    sets: Mapping[str, Mapping[str, Interval]]
    ranking: Interval
    labels_per_image: Mapping[str, float]

    @property
    def verdict(self) -> str:
        """What of the difference no threshold gives, in one line."""
        return beyond_threshold(self.run.name, self.sets, self.ranking)


@dataclass(frozen=True)
class Comparison:
    """Runs beside the first of them.

    Attributes:
        dataset, split, n_images: what they are compared on.
        reference: the first run's folder.
        labels_per_image: that the rule "equal labels" gives every run: the true number on val.
        differences: of the other runs.
    """

    dataset: str
    split: str
    n_images: int
    reference: Path
    labels_per_image: float
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """One object; differences in points, with the ends of their intervals."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            "n_images": self.n_images,
            "reference": str(self.reference),
            "level": LEVEL,
            "equal_labels_per_image": self.labels_per_image,
            "differences": [
                {
                    "run": str(one.run),
                    "mAP": one.ranking.to_json(),
                    "sets": {
                        rule: {metric: i.to_json() for metric, i in metrics.items() if metric != "labels_per_image"}
                        | {"labels_per_image": one.labels_per_image[rule]}  # this run's own, no difference
                        for rule, metrics in one.sets.items()
                    },
                    "verdict": one.verdict,
                }
                for one in self.differences
            ],
        }


def differences(seen: Iterable[SplitPredictions], seed: int) -> Comparison:
    """Compare runs with the first one.

    Args:
        seen: what two runs or more say of the same rows; each is looked at once, in turn.
        seed: of the resampling.
    """
    runs: list[Run] = []
    scored: list[_Scored] = []
    target = 0.0
    for one in seen:
        if not scored:
            target = float(one.run.facts["val"]["true_labels_per_image"])
            dataset, split, n_images = one.project.dataset.name, one.split, len(one.logits)
        runs.append(one.run)
        scored.append(_score(one, target, seed, scored[0] if scored else None))
    found = tuple(_difference(run, one, scored[0]) for run, one in zip(runs[1:], scored[1:], strict=True))
    return Comparison(dataset, split, n_images, runs[0].folder, target, found)


def _score(seen: SplitPredictions, target: float, seed: int, reference: _Scored | None) -> _Scored:
    """Score a run under every rule; None for the reference itself, whose critic has nothing to stand beside."""
    scored = _Scored(seen.logits, seen.inputs.labels.numpy(), weights(len(seen.logits), seed))
    scored.by_threshold(float(seen.run.facts["thresholds"]["tuned"]), target)
    if reference is not None and seen.run.facts["critic"] is not None:
        scored.beside(reference, seen.decided(DecisionConfig("rerank"))[1])
    return scored


class _Scored:
    """A run's scores by rule, under each weighting of the images, and the reference's that they stand beside.

    Args:
        logits: [N, L].
        labels: int8 [N, L].
        w: weights [W, N].
    """

    def __init__(self, logits: NDArray[np.float32], labels: NDArray[np.int8], w: NDArray[np.int32]) -> None:
        self.p = probabilities(logits)
        self.labels = labels
        self.w = w
        self.ranking = mean_average_precision(logits, labels, w)
        self.sets: dict[str, _Scores] = {}
        self.references: dict[str, _Scores] = {}
        self.labels_per_image: dict[str, float] = {}

    def by_threshold(self, tuned: float, labels_per_image: float) -> None:
        """Score the sets of RULES."""
        thresholds = (DEFAULT_THRESHOLD, tuned, threshold_for(self.p, labels_per_image))
        for rule, threshold in zip(RULES, thresholds, strict=True):
            self._add(rule, self.p > threshold)

    def beside(self, reference: _Scored, chosen: NDArray[np.bool_]) -> None:
        """Score the critic's sets [N, L], and the reference's that are a match for them."""
        for rule in (CRITIC, CRITIC_AT_HALF):
            self._add(rule, chosen)
        threshold = threshold_for(reference.p, self.labels_per_image[CRITIC])
        self.references[CRITIC] = set_scores(reference.p > threshold, self.labels, self.w)
        self.references[CRITIC_AT_HALF] = reference.sets["p > 0.5"]

    def _add(self, rule: str, predicted: NDArray[np.bool_]) -> None:
        self.sets[rule] = set_scores(predicted, self.labels, self.w)
        self.labels_per_image[rule] = float(predicted.sum(axis=1).mean())


def threshold_for(p: NDArray[np.float64], labels_per_image: float) -> float:
    """The threshold that gives so many labels an image: it looks at predictions only, never at the truth."""
    count = min(max(round(labels_per_image * len(p)), 1), p.size - 1)
    ranked = np.sort(p, axis=None)
    return float((ranked[-count] + ranked[-count - 1]) / 2)


def _difference(run: Run, mine: _Scored, first: _Scored) -> Difference:
    theirs = {**first.sets, **mine.references}
    sets = {
        rule: {metric: interval(scores[metric], theirs[rule][metric]) for metric in METRICS}
        for rule, scores in mine.sets.items()
    }
    return Difference(run.folder, sets, interval(mine.ranking, first.ranking), mine.labels_per_image)
