"""From answers to a record for each data set, and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.answers import Answer, right, scores
from benchmarks.rivals.rows import Data
from benchmarks.show import Table, told
from labeldep_cli.evaluation.bootstrap import seeded_interval, set_scores, weights

LABELDEP, RIVAL = "labeldep", "rival"

RESAMPLING_SEED = 0

COLUMNS = {
    "exact_match": "exact",
    "exact_match_seen": "seen sets",
    "exact_match_unseen": "unseen",
    "OF1": "OF1",
    "CF1": "CF1",
    "labels_per_image": "labels",
    "AURC": "AURC",
    "coverage_at_95": "at 95 %",
    "ECE": "ECE",
}
"""The columns of a table; in the JSON all of them are there."""


@dataclass(frozen=True)
class Row:
    """One system under one decision on one seed.

    Attributes:
        kind: LABELDEP or RIVAL.
        system, decision: what it is.
        val, test: its answers; None for val of a rival, which needs none.
        note: its setting, and what was left out for its cost.
        seconds: of training, of a rival; None for labeldep, whose runs may have been finished before.
    """

    kind: str
    system: str
    decision: str
    val: Answer | None
    test: Answer
    note: str = ""
    seconds: float | None = None


def record(data: Sequence[Data], rows: Sequence[Sequence[Row]]) -> dict[str, Any]:
    """Everything about one data set.

    Args:
        data: its rows by seed; all the same but for a drawn data set.
        rows: by seed the same systems; the first one is the baseline at p > 0.5.

    Returns:
        sizes; `systems[]`, each with its scores (means over seeds), exact match and val's exact match by seed, and
        the difference to the best rival; `chosen`: labeldep's decision with the best exact match on val, minus the
        rival with the best exact match on TEST, which favours the rivals, and its OF1 minus the baseline's.
    """
    first = data[0]
    systems = [_system(data, [seed[k] for seed in rows]) for k in range(len(rows[0]))]
    rivals = [k for k, one in enumerate(systems) if one["kind"] == RIVAL]
    own = [k for k, one in enumerate(systems) if one["kind"] == LABELDEP]
    best = max(rivals, key=lambda k: systems[k]["exact_match"])
    chosen = max(own, key=lambda k: mean(systems[k]["val_exact_match_by_seed"]))
    vectors = [_vectors(data, [seed[k] for seed in rows]) for k in range(len(systems))]
    for k, one in enumerate(systems):
        one["beside_best_rival"] = None if k == best else _beside(vectors[k], vectors[best], "exact_match")
    return {
        "dataset": first.name,
        "rows": {name: len(getattr(first, name).y) for name in ("train", "val", "test")},
        "labels": first.train.y.shape[1],
        "sets_in_train": len(np.unique(first.train.y, axis=0)),
        "seen_in_test": 100 * float(np.mean([one.seen.mean() for one in data])),
        "systems": systems,
        "chosen": {
            "system": systems[chosen]["system"],
            "decision": systems[chosen]["decision"],
            "rival": systems[best]["system"],
            "exact_match": systems[chosen]["beside_best_rival"],
            "OF1_beside_baseline": _beside(vectors[chosen], vectors[0], "OF1"),
        },
    }


def _system(data: Sequence[Data], rows: Sequence[Row]) -> dict[str, Any]:
    first = rows[0]
    found = [scores(row.test, one.test.y, one.seen) for row, one in zip(rows, data, strict=True)]
    return {
        "kind": first.kind,
        "system": first.system,
        "decision": first.decision,
        "note": first.note,
        **{key: _mean([one[key] for one in found]) for key in found[0]},
        "exact_match_by_seed": [one["exact_match"] for one in found],
        "val_exact_match_by_seed": [
            100 * float(right(row.val.sets, one.val.y).mean())
            for row, one in zip(rows, data, strict=True)
            if row.val is not None
        ],
        "seconds": [row.seconds for row in rows],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return mean(there) if there else None


Vectors = Mapping[str, NDArray[np.float64]]


def _vectors(data: Sequence[Data], rows: Sequence[Row]) -> Vectors:
    """Scores [S, 1 + B] by metric; the resamples of a seed are the same for every system."""
    found = [
        set_scores(row.test.sets, one.test.y, weights(len(one.test.y), seed))
        for seed, (row, one) in enumerate(zip(rows, data, strict=True))
    ]
    return {metric: np.stack([one[metric] for one in found]) for metric in ("exact_match", "OF1")}


def _beside(mine: Vectors, other: Vectors, metric: str) -> dict[str, Any]:
    return seeded_interval(mine[metric], other[metric], RESAMPLING_SEED).to_json()


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """One table for each data set, and one of what labeldep gains over the best rival."""
    gains = []
    for one in found["datasets"]:
        sizes = ", ".join(f"{name} {count:,}" for name, count in one["rows"].items())
        title = (
            f"{one['dataset']}: {sizes} rows, {one['labels']} labels; {one['sets_in_train']:,} sets in train, which "
            f"{one['seen_in_test']:.1f} % of test have; {found['seeds']} "
            + ("folds of train, each tested once" if found["inside_train"] else "seeds")
        )
        rows = [_line(system) for system in one["systems"]]
        yield Table(title, ("system", "decision", *COLUMNS.values(), "beside best rival"), rows, words=2)
        chosen = one["chosen"]
        names = [one["dataset"], f"{chosen['system']}, {chosen['decision']}", chosen["rival"]]
        gains.append([*names, told(chosen["exact_match"]), told(chosen["OF1_beside_baseline"])])
    header = ("data set", "labeldep's best on val", "best rival on test", "exact match", "OF1 beside p > 0.5")
    yield Table("labeldep minus the best rival", header, gains, words=3)
    notes = [[one["dataset"], s["system"], s["note"]] for one in found["datasets"] for s in one["systems"] if s["note"]]
    left_out = [[one["dataset"], *pair] for one in found["datasets"] for pair in one["left_out"]]
    yield Table("Settings and limits", ("data set", "rival", ""), notes + left_out, words=3)


def _line(system: Mapping[str, Any]) -> list[str]:
    beside = system["beside_best_rival"]
    cells = ["" if (value := system[key]) is None else f"{value:.{_digits(key)}f}" for key in COLUMNS]
    by_seed = system["exact_match_by_seed"]
    if len(by_seed) > 1 and stdev(by_seed) > 0:
        cells[0] += f" (sd {stdev(by_seed):.1f})"
    return [system["system"], system["decision"], *cells, "best" if beside is None else told(beside)]


def _digits(key: str) -> int:
    return 2 if key == "labels_per_image" else 1
