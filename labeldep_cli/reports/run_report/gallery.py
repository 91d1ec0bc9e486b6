"""Which images the report's gallery shows: like the paper's Fig. 2, but also with images that got worse."""

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
        text: how the images were chosen, in one sentence.
        rows: their positions among the split's usable rows.
        notes: a remark on an image, by row.
    """

    title: str
    text: str
    rows: tuple[int, ...]
    notes: dict[int, str] = field(default_factory=dict)


def photo_grids(reports: Sequence[RunReport]) -> list[PhotoGrid]:
    """Choose images: improved and made worse by each run compared with the first, most disagreed on, confidently wrong.

    Headings without an image are left out.
    """
    grids = [grid for report in reports[1:] for grid in _gained_and_lost(reports[0], report)]
    grids += [_disagreeing(reports)] if len(reports) > 1 else []
    return [grid for grid in (*grids, _surely_wrong(reports)) if grid.rows]


def _gained_and_lost(first: RunReport, other: RunReport) -> tuple[PhotoGrid, PhotoGrid]:
    gain = first.wrong - other.wrong  # [N]
    better, worse = int((gain > 0).sum()), int((gain < 0).sum())
    compared = f"{other.letter} compared with {first.letter}"
    text = (
        f"{other.letter} has fewer labels wrong than {first.letter} on {better} of {len(gain)} images, and more on "
        f"{worse}; these are the ones with the largest difference."
    )
    return (
        PhotoGrid(f"Most improved: {compared}", text, _largest(gain)),
        PhotoGrid(f"Made worse: {compared}", "The images with the largest difference the other way.", _largest(-gain)),
    )


def _disagreeing(reports: Sequence[RunReport]) -> PhotoGrid:
    differing = np.max([(a.sets != b.sets).sum(axis=1) for a, b in combinations(reports, 2)], axis=0)
    text = (
        f"The sets of two runs differ on {int((differing > 0).sum())} of {len(differing)} images; these are the ones "
        "with the most labels that differ, no matter which run is right."
    )
    return PhotoGrid("Most disagreed on", text, _largest(differing))


def _surely_wrong(reports: Sequence[RunReport]) -> PhotoGrid:
    """The images where a probability is furthest from the truth: the run's error, or the annotator's."""
    labels = reports[0].labels
    largest = np.array([max(_errors(report, row).max() for report in reports) for row in range(len(labels))])
    rows = tuple(row for row in _largest(largest) if largest[row] > 0.5)
    notes = {}
    for row in rows:
        errors = np.array([_errors(report, row) for report in reports])  # [R, L]
        run, label = np.unravel_index(errors.argmax(), errors.shape)
        report, name = reports[int(run)], reports[0].run.space.names[int(label)]
        where = "in the truth" if labels[row, label] > 0 else "not in the truth"
        notes[row] = f"{report.letter}: p {report.p[row, label]:.3f} of {name}, which is {where}"
    text = "The images where a probability is furthest from the truth: the run's mistake, or the annotator's."
    return PhotoGrid("Most confidently wrong", text, rows, notes)


def _errors(report: RunReport, row: int) -> NDArray[np.float64]:
    """How far each probability of an image is from the truth, [L]; 0 where that is unknown."""
    labels = report.labels[row]
    return np.where(labels >= 0, np.abs((labels > 0) - report.p[row]), 0)


def _largest(values: NDArray[np.integer] | NDArray[np.floating]) -> tuple[int, ...]:
    """The rows with the largest values above 0; among equal values the first rows."""
    return tuple(int(row) for row in np.argsort(-values, kind="stable")[:SHOWN] if values[row] > 0)
