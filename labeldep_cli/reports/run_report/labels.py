"""The report's sections on labels: the scores of each, and which of them go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.evaluation.cooccurrence import clustered, log_lift
from labeldep_cli.evaluation.dependency import Dependency, Pair, cooccurrence_counts, measure
from labeldep_cli.reports import heatmap, tables
from labeldep_cli.reports.run_report.one_run import RunReport

SCORES = ("f1", "ap", "precision", "recall")

MAPPED = 80
"""Labels in a heat map at most: the most frequent ones."""

SHOWN_PAIRS = 12

_MOST = 3.0
"""The log2 of a lift that has a map's full colour: 8 times as often as by chance, or an eighth."""


def label_rows(reports: Sequence[RunReport]) -> list[dict[str, Any]]:
    """A row a label: its name, its images and, by score, a cell a run; from each run's own sets."""
    own = [one.evaluations[one.own].scores.per_label for one in reports]
    return [
        {
            "label": of_label[0].label,
            "count": of_label[0].count,
            "scores": {score: [getattr(one, score) for one in of_label] for score in SCORES},
        }
        for of_label in zip(*own, strict=True)
    ]


@dataclass(frozen=True)
class Pairing:
    """Which labels go together, over the images whose labels are all known. R runs, M mapped labels.

    Attributes:
        n_images: such images.
        axes: of the maps.
        names: the M labels whole, in the maps' order.
        maps: (title, picture): the real sets, then each run's own and how they differ from the real ones.
        counts: images with both labels, [1 + R, M, M]: real, then by run.
        measured: a row a run and kind of sets, as `labeldep dependency` prints them: run and cells.
        pairs: those whose predicted count is furthest from the real one in some run, a Pair a run.
    """

    n_images: int
    axes: heatmap.Axes
    names: tuple[str, ...]
    maps: tuple[tuple[str, str], ...]
    counts: list[list[list[int]]]
    measured: list[tuple[RunReport, Sequence[str]]]
    pairs: list[tuple[Pair, ...]]


def pairing(reports: Sequence[RunReport], seed: int) -> Pairing | None:
    """See which labels go together; None where no image has all its labels known, or there is one label alone.

    Args:
        reports: the runs.
        seed: of the sampled sets and of the two-sample test.
    """
    labels, names = reports[0].labels, reports[0].run.space.names
    whole = (labels >= 0).all(axis=1)
    if not whole.any() or len(names) < 2:
        return None
    real = labels[whole] > 0
    frequent = np.sort(np.argsort(-real.sum(axis=0), kind="stable")[:MAPPED])
    order = frequent[clustered(log_lift(cooccurrence_counts(real[:, frequent]), len(real)))]
    counts = [cooccurrence_counts(sets[:, order]) for sets in (real, *(one.sets[whole] for one in reports))]
    train = reports[0].predictions.data.training_labels
    dependencies = [measure(labels, one.sets, one.p, train, names, seed) for one in reports]
    return Pairing(
        n_images=len(real),
        axes=heatmap.Axes.of([names[k] for k in order]),
        names=tuple(names[k] for k in order),
        maps=_maps(reports, [log_lift(count, len(real)) for count in counts]),
        counts=[count.astype(int).tolist() for count in counts],
        measured=[(one, row) for one, m in zip(reports, dependencies, strict=True) for row in _measured(one, m)],
        pairs=_strongest(dependencies),
    )


def _maps(reports: Sequence[RunReport], lifts: Sequence[NDArray[np.float64]]) -> tuple[tuple[str, str], ...]:
    real, *predicted = lifts
    drawn = [("real", real)]
    for one, own in zip(reports, predicted, strict=True):
        drawn += [(f"{one.letter} predicted", own), (f"{one.letter} \N{MINUS SIGN} real", own - real)]
    return tuple((title, heatmap.picture(values, _MOST)) for title, values in drawn)


def _measured(one: RunReport, dependency: Dependency) -> Sequence[Sequence[str]]:
    return tables.dependency_rows(one.evaluations[one.own].rule.to_json(), dependency.to_json())


def _strongest(dependencies: Sequence[Dependency]) -> list[tuple[Pair, ...]]:
    """The pairs whose predicted count is furthest from the real one in some run; of equal ones by label order."""
    by_labels = [{pair.labels: pair for pair in one.pairs} for one in dependencies]
    beside = [tuple(pairs[labels] for pairs in by_labels) for labels in sorted(by_labels[0])]
    beside.sort(key=lambda pairs: -max(abs(pair.predicted - pair.real) for pair in pairs))
    return beside[:SHOWN_PAIRS]
