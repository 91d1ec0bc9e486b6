"""The table of all decisions as rows of text."""

from __future__ import annotations

from labeldep_cli.experiments.decision_table import PURPOSES, DecisionTable
from labeldep_cli.reports.tables import SCORE_NAMES, Row, number

_SCORES = ("CP", "CR", "CF1", "OP", "OR", "OF1", "macro_f1", "exact_match", "labels_per_image")

COLUMNS = ("decision", *(SCORE_NAMES[name] for name in _SCORES), "us", "cost")
"""The columns of `rows`."""


def rows(table: DecisionTable) -> list[Row]:
    """One row per decision; the best value of each column has a star.

    The best number of labels is the one nearest to the true number, the best cost the lowest.
    """
    scores = [[float(getattr(row.evaluation.scores, name)) for name in _SCORES] for row in table.rows]
    true_count = table.first.scores.true_labels_per_image
    goodness = [[*values[:-1], -abs(values[-1] - true_count)] for values in scores]
    best = [max(column) for column in zip(*goodness, strict=True)]
    costs = [table.cost(row) for row in table.rows]
    lowest = min(cost["microseconds_per_image"] for cost in costs)
    cells: list[Row] = []
    for row, values, good, cost in zip(table.rows, scores, goodness, costs, strict=True):
        micros = cost["microseconds_per_image"]
        cells.append(
            [
                row.named.name,
                *(number(v) + _star(g == b) for v, g, b in zip(values, good, best, strict=True)),
                f"{micros:.1f}" + _star(micros == lowest),
                f"{cost['relative']:.1f}x",
            ]
        )
    return cells


def choices(table: DecisionTable) -> list[Row]:
    """One row per purpose: its score, the decision chosen on val, its flags, its score on val and on the split.

    Empty if nothing could be chosen.
    """
    if table.chosen is None:
        return []
    flags = {row.named.name: row.named.flags for row in table.rows}
    found = [
        [PURPOSES[score], SCORE_NAMES[score], choice.name, flags[choice.name], number(choice.val), number(choice.score)]
        for score, choice in table.chosen.items()
    ]
    return [*found, ["a ranking of images", "mAP", "any: none changes it", "", "", number(table.first.scores.mAP)]]


def _star(best: bool) -> str:
    return "*" if best else " "
