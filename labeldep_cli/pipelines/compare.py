"""`labeldep compare`: take the difference between runs apart, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import Machine, Place, changed
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation.bootstrap import (
    LEVEL,
    METRICS,
    Interval,
    interval,
    mean_average_precision,
    set_scores,
    weights,
)
from labeldep_cli.evaluation.evaluate import collect_logits, probabilities
from labeldep_cli.evaluation.thresholds import DEFAULT_THRESHOLD
from labeldep_cli.inputs import Inputs
from labeldep_cli.pipelines.runs import Run, open_run
from labeldep_cli.progress import Reporter, Silent

RULES = ("p > 0.5", "tuned", "equal labels")
"""The decisions under which sets are compared (protocol: "a gain is three gains"): the threshold 0.5, each run's own
tuned on val, and the one that gives each run as many labels an image as val truly has."""

SURVIVES = (("equal labels", "CF1"), ("equal labels", "OF1"), ("tuned", "exact_match"))
"""What, beside mAP, no threshold and no shift towards more labels can give."""


@dataclass(frozen=True)
class Difference:
    """A run beside the first one.

    Attributes:
        run: its folder.
        sets: by rule and metric, the difference of scores of predicted sets.
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
        found = {"mAP": self.ranking} | {f"{metric} ({rule})": self.sets[rule][metric] for rule, metric in SURVIVES}
        told = [f"{name} {i.difference:+.1f} [{i.low:+.1f}, {i.high:+.1f}]" for name, i in found.items() if i.sign != 0]
        if told:
            return f"{self.run.name} differs beyond its threshold: {'; '.join(told)}"
        half, equal = self.sets["p > 0.5"]["CF1"], self.sets["equal labels"]["CF1"]
        return (
            f"{self.run.name} does not differ for sure beyond its threshold: CF1 {half.difference:+.1f} at p > 0.5, "
            f"{equal.difference:+.1f} [{equal.low:+.1f}, {equal.high:+.1f}] at equal labels an image"
        )


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
                        rule: {metric: i.to_json() for metric, i in metrics.items()}
                        | {"labels_per_image": one.labels_per_image[rule]}
                        for rule, metrics in one.sets.items()
                    },
                    "verdict": one.verdict,
                }
                for one in self.differences
            ],
        }


def compare(
    place: Place, names: Sequence[str], machine: Machine, split: str, seed: int, reporter: Reporter
) -> Comparison:
    """Compare runs with the first one, on the same images, by paired bootstrap.

    Args:
        place: where runs and their data lie.
        names: two runs or more.
        machine: to compute on.
        split: of their data set.
        seed: of the resampling.
        reporter: takes notes.

    Raises:
        LabeldepError: fewer than two runs, or runs whose protocol differs: rows, labels, or how they were split.
    """
    if len(names) < 2:
        raise LabeldepError("there is nothing to compare with", "Name two runs or more: labeldep compare RUN RUN")
    runs = [open_run(name, place.runs_dir) for name in names]
    for run in runs:
        if not run.finished:
            raise LabeldepError(
                f"{run.folder} is unfinished, which is no match for a finished run",
                "Let it train on: the same command that began it.",
            )
    for run in runs[1:]:
        _require_same_protocol(runs[0], run)
    # The data set's notes are told once, though every run opens it through its own backbone.
    projects = [run.project(place, None, machine, reporter if run is runs[0] else Silent()) for run in runs]
    runs[0].require_split(projects[0], split)
    target = float(runs[0].facts["val"]["true_labels_per_image"])
    first_seen: Inputs | None = None
    scored: list[tuple[dict[str, dict[str, NDArray[np.float64]]], NDArray[np.float64], dict[str, float]]] = []
    for run, project in zip(runs, projects, strict=True):
        inputs = project.inputs(split, run.full)
        first_seen = first_seen or inputs
        if list(inputs.paths) != list(first_seen.paths):  # paired by row: as many images are not enough
            raise LabeldepError(
                f"{run.folder} and {runs[0].folder} do not see the same images of {split}",
                "Extract both backbones' features anew: the images that can be read have changed (--fresh).",
            )
        logits = collect_logits(run.generator(project.device), inputs)
        scored.append(_score(logits, inputs.labels.numpy(), run, target, weights(len(logits), seed)))
    first = scored[0]
    return Comparison(
        projects[0].dataset.name,
        split,
        len(first_seen.labels) if first_seen else 0,
        runs[0].folder,
        target,
        tuple(_difference(run, one, first) for run, one in zip(runs[1:], scored[1:], strict=True)),
    )


def _require_same_protocol(first: Run, other: Run) -> None:
    mine, theirs = ({"data set": run.config["dataset"]["name"], **_rows(run)} for run in (first, other))
    differences = changed(theirs, mine)
    if differences or first.space != other.space:
        raise LabeldepError(
            f"{first.folder} and {other.folder} have another protocol: {'; '.join(differences) or 'their labels'}",
            "Compare runs on the same data set, drawn with the same --split-seed and fractions.",
        )


def _rows(run: Run) -> dict[str, str]:
    return {f"{name} rows": value[:12] for name, value in run.config["dataset"]["fingerprints"].items()}


def _score(
    logits: NDArray[np.float32], labels: NDArray[np.int8], run: Run, target: float, w: NDArray[np.int32]
) -> tuple[dict[str, dict[str, NDArray[np.float64]]], NDArray[np.float64], dict[str, float]]:
    """Set scores by rule under each weighting, mAP under each, and labels an image by rule."""
    p = probabilities(logits)
    rules = dict(
        zip(RULES, (DEFAULT_THRESHOLD, float(run.facts["thresholds"]["tuned"]), threshold_for(p, target)), strict=True)
    )
    sets = {rule: set_scores(p > threshold, labels, w) for rule, threshold in rules.items()}
    per_image = {rule: float((p > threshold).sum(axis=1).mean()) for rule, threshold in rules.items()}
    return sets, mean_average_precision(logits, labels, w), per_image


def threshold_for(p: NDArray[np.float64], labels_per_image: float) -> float:
    """The threshold that gives so many labels an image: it looks at predictions only, never at the truth."""
    count = min(max(round(labels_per_image * len(p)), 1), p.size - 1)
    ranked = np.sort(p, axis=None)
    return float((ranked[-count] + ranked[-count - 1]) / 2)


def _difference(run: Run, mine: tuple[Any, ...], theirs: tuple[Any, ...]) -> Difference:
    sets = {
        rule: {metric: interval(mine[0][rule][metric], theirs[0][rule][metric]) for metric in METRICS} for rule in RULES
    }
    return Difference(run.folder, sets, interval(mine[1], theirs[1]), mine[2])
