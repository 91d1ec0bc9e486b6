"""The report's sections on labels: the scores of each label, and which labels occur together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.evaluation.cooccurrence import clustered, log_lift
from labeldep_cli.evaluation.dependency import Dependency, Pair, measure
from labeldep_cli.evaluation.pair_counts import cooccurrence_counts
from labeldep_cli.reports import heatmap, tables
from labeldep_cli.reports.run_report.one_run import RunReport

SCORES = ("f1", "ap", "precision", "recall")

LISTED = 1000
"""Maximum number of labels with a row of scores: the most frequent ones."""

MAPPED = 80
"""Maximum number of labels in a heat map: the most frequent ones."""

SHOWN_PAIRS = 12

_MOST = 3.0
"""The log2 of the lift that gets a map's full colour: 8 times as often as by chance, or an eighth."""


def label_rows(reports: Sequence[RunReport]) -> list[dict[str, Any]]:
    """One row per label: its name, its number of images and, by score, one cell per run, from each run's own sets.

    At most LISTED labels, in label order.
    """
    columns = [report.evaluations[report.own].scores.per_label for report in reports]
    frequent = sorted(range(len(columns[0])), key=lambda k: -columns[0][k].count)[:LISTED]
    columns = [tuple(scores[k] for k in sorted(frequent)) for scores in columns]
    return [
        {
            "label": of_label[0].label,
            "count": of_label[0].count,
            "scores": {score: [getattr(scores, score) for scores in of_label] for score in SCORES},
        }
        for of_label in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Pairing:
    """Which labels occur together, over the images whose labels are all known. R runs, M mapped labels.

    Attributes:
        n_images: number of these images.
        axes: the axes of the maps.
        names: the full names of the M labels, in the maps' order.
        maps: (title, picture): the real sets, then each run's sets and their difference from the real ones.
        counts: images with both labels, [1 + R, M, M]: real sets first, then each run's.
        measured: one row per run and kind of sets, as `labeldep dependency` prints them: run and cells.
        pairs: the pairs whose predicted count is furthest from the real one in some run; one Pair per run.
        left_out: the number of rarer labels, whose pairs are not looked at.
    """

    n_images: int
    axes: heatmap.Axes
    names: tuple[str, ...]
    maps: tuple[tuple[str, str], ...]
    counts: list[list[list[int]]]
    measured: list[tuple[RunReport, Sequence[str]]]
    pairs: list[tuple[Pair, ...]]
    left_out: int


def pairing(reports: Sequence[RunReport], seed: int) -> Pairing | None:
    """Count which labels occur together.

    Args:
        reports: the runs.
        seed: seed of the sampled sets and of the two-sample test.

    Returns:
        None if no image has all its labels known, or if there is only one label.
    """
    labels, names = reports[0].labels, reports[0].run.space.names
    complete = (labels >= 0).all(axis=1)
    if not complete.any() or len(names) < 2:
        return None
    real = labels[complete] > 0
    frequent = np.sort(np.argsort(-real.sum(axis=0), kind="stable")[:MAPPED])
    order = frequent[clustered(log_lift(cooccurrence_counts(real[:, frequent]), len(real)))]
    counts = [cooccurrence_counts(sets[:, order]) for sets in (real, *(report.sets[complete] for report in reports))]
    train = reports[0].predictions.data.training_labels
    dependencies = [measure(labels, report.sets, report.p, train, names, seed) for report in reports]
    return Pairing(
        n_images=len(real),
        axes=heatmap.Axes.of([names[k] for k in order]),
        names=tuple(names[k] for k in order),
        maps=_maps(reports, [log_lift(count, len(real)) for count in counts]),
        counts=[count.astype(int).tolist() for count in counts],
        measured=[
            (report, row) for report, m in zip(reports, dependencies, strict=True) for row in _measured(report, m)
        ],
        pairs=_strongest(dependencies),
        left_out=dependencies[0].labels_left_out,
    )


def _maps(reports: Sequence[RunReport], lifts: Sequence[NDArray[np.float64]]) -> tuple[tuple[str, str], ...]:
    real, *predicted = lifts
    drawn = [("real", real)]
    for report, lift in zip(reports, predicted, strict=True):
        drawn += [(f"{report.letter} predicted", lift), (f"{report.letter} \N{MINUS SIGN} real", lift - real)]
    return tuple((title, heatmap.picture(values, _MOST)) for title, values in drawn)


def _measured(report: RunReport, dependency: Dependency) -> Sequence[Sequence[str]]:
    return tables.dependency_rows(report.evaluations[report.own].rule.to_json(), dependency.to_json())


def _strongest(dependencies: Sequence[Dependency]) -> list[tuple[Pair, ...]]:
    """The pairs whose predicted count is furthest from the real one in some run; ties in label order."""
    by_labels = [{pair.labels: pair for pair in dependency.pairs} for dependency in dependencies]
    pairs_by_run = [tuple(pairs[labels] for pairs in by_labels) for labels in sorted(by_labels[0])]
    pairs_by_run.sort(key=lambda pairs: -max(abs(pair.predicted - pair.real) for pair in pairs))
    return pairs_by_run[:SHOWN_PAIRS]
