"""Which images the report's gallery shows: like the paper's Fig. 2, but with those that got worse beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.reports.run_report.one_run import RunReport

SHOWN = 6


@dataclass(frozen=True)
class PhotoGrid:
    """Some images under one heading.

    Attributes:
        title: the heading.
        text: how they were chosen, a sentence.
        rows: of the split's usable rows.
        notes: what is to be seen, by row.
    """

    title: str
    text: str
    rows: tuple[int, ...]
    notes: dict[int, str] = field(default_factory=dict)


def photo_grids(reports: Sequence[RunReport]) -> list[PhotoGrid]:
    """What each run improved on the first one and what it made worse, where they disagree, where they are surely wrong.

    Headings without an image are left out.
    """
    grids = [grid for one in reports[1:] for grid in _gained_and_lost(reports[0], one)]
    grids += [_disagreeing(reports)] if len(reports) > 1 else []
    return [grid for grid in (*grids, _surely_wrong(reports)) if grid.rows]


def _gained_and_lost(first: RunReport, other: RunReport) -> tuple[PhotoGrid, PhotoGrid]:
    gain = first.wrong - other.wrong  # [N]
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    beside = f"{other.letter} beside {first.letter}"
    text = (
        f"{other.letter} has fewer labels wrong than {first.letter} on {better} of {len(gain)} images, and more on "
        f"{worse}; these are the ones with the largest difference."
    )
    return (
        PhotoGrid(f"Most improved: {beside}", text, _largest(gain)),
        PhotoGrid(f"Made worse: {beside}", "The same, the other way round.", _largest(-gain)),
    )


def _disagreeing(reports: Sequence[RunReport]) -> PhotoGrid:
    differing = np.max([(a.sets != b.sets).sum(axis=1) for a, b in combinations(reports, 2)], axis=0)
    text = (
        f"The sets of two runs differ on {int((differing > 0).sum())} of {len(differing)} images; these are the ones "
        "with the most labels that differ, whoever is right."
    )
    return PhotoGrid("Most disagreed on", text, _largest(differing))


def _surely_wrong(reports: Sequence[RunReport]) -> PhotoGrid:
    """Where a probability is furthest from the truth: the run's error, or the annotator's."""
    labels = reports[0].labels
    off = np.array([np.where(labels >= 0, np.abs((labels > 0) - one.p), 0) for one in reports])  # [R, N, L]
    rows = tuple(row for row in _largest(off.max(axis=(0, 2))) if off[:, row].max() > 0.5)
    notes = {}
    for row in rows:
        run, label = np.unravel_index(off[:, row].argmax(), off[:, row].shape)
        one, name = reports[int(run)], reports[0].run.space.names[int(label)]
        where = "in the truth" if labels[row, label] > 0 else "not in the truth"
        notes[row] = f"{one.letter}: p {one.p[row, label]:.3f} of {name}, which is {where}"
    text = "Where a probability is furthest from the truth: the run's mistake, or the annotator's."
    return PhotoGrid("Most confidently wrong", text, rows, notes)


def _largest(values: NDArray[np.integer] | NDArray[np.floating]) -> tuple[int, ...]:
    """The rows with the largest values above 0; of equal ones the first."""
    return tuple(int(row) for row in np.argsort(-values, kind="stable")[:SHOWN] if values[row] > 0)
