"""One case, from draws to rows; and the tables of a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted.cases import Case, CaseName, Sizes, draw
from benchmarks.planted.rows import Scale, System, decide, train
from benchmarks.planted.score import COLUMNS, INTERVAL_LEVEL, Row, score
from benchmarks.show import Table, told
from labeldep_cli.evaluation.thresholds import DecisionRule, tune
from labeldep_cli.progress import Reporter


def case_rows(
    name: CaseName,
    labels: Path,
    work: Path,
    sizes: Sizes,
    systems: Sequence[System],
    scale: Scale,
    seed: int,
    reporter: Reporter,
) -> list[Row]:
    """Draw a case, train every system on it, and score them; the first row is the baseline, the last the posterior."""
    folder = work / f"{name}-{seed}"
    case = draw(name, labels, sizes, seed, folder)
    labels_per_image = float(case.tuning[1].sum(axis=1).mean())
    rows: list[Row] = []
    for system in systems:
        reporter.note(f"{name}, seed {seed}: {system.name}")
        train(system, case, folder, scale, seed, reporter)
        decided = decide(system, folder, labels_per_image, reporter)
        rows += [
            score(
                system.name, rule, sets, decided.logits, case.labels, seed, decided.beta if rule == "rerank" else None
            )
            for rule, sets in decided.sets.items()
        ]
    return rows + _known_rows(case, seed)


def _known_rows(case: Case, seed: int) -> list[Row]:
    """The systems without training: the true marginals, the true posterior, and the training sets' own counts."""
    ranked = case.truth.marginals.astype(np.float32)

    def row(system: str, rule: str, sets: NDArray[np.bool_]) -> Row:
        return score(system, rule, sets, ranked, case.labels, seed)

    marginals = case.truth.marginals
    tuned = DecisionRule(threshold=tune(*case.tuning))
    found = [
        row("true marginals", "p > 0.5", marginals > 0.5),
        row("true marginals", "tuned", tuned.decide(marginals)),
    ]
    if case.by_counts is not None:
        found.append(row("posterior of train counts", "best set", case.by_counts.best))
    return [*found, row("true posterior", "best set", case.truth.best)]


def tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """Two tables per case: every row with its fraction of the true gain, and critics in training minus control."""
    for case in found["cases"]:
        yield Table(
            f"{case['case']}: {found['seeds']} seeds, simulated evidence; gain in exact match over the first row, and "
            f"that gain as % of the true posterior's, {INTERVAL_LEVEL:g} % intervals over images",
            ("system", "decision", *COLUMNS, "mAP", "gain", "% of the true gain"),
            [_cells(row) for row in case["rows"]],
            words=2,
        )
        yield Table(
            f"{case['case']}: critics in training less their control, trained as long without a critic; "
            f"{INTERVAL_LEVEL:g} % intervals over images and seeds",
            ("system", "decision", *COLUMNS, "mAP"),
            [
                (
                    row["system"],
                    row["decision"],
                    *(told(row[metric], digits=2 if metric == "labels_per_image" else 1) for metric in COLUMNS),
                    f"{row['mAP']:+.2f}",
                )
                for row in case["beside_control"]
            ],
            words=2,
        )


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    numbers = (f"{row[key]:.2f}" for key in (*COLUMNS, "mAP"))
    decision = row["decision"]
    if row["beta"] is not None:
        decision = f"{decision}, beta {'/'.join(f'{beta:g}' for beta in row['beta'])}"
    share = "-" if row["fraction"] is None else told(row["fraction"], scale=100, digits=0)
    return row["system"], decision, *numbers, told(row["gain"]), share
