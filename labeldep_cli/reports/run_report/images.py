"""The images that the report's reader can choose, and what speaks for each of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeldep_cli.datasets.split import Skipped
from labeldep_cli.evaluation.evidence import critic_evidence
from labeldep_cli.progress import Reporter
from labeldep_cli.reports.run_report.gallery import PhotoGrid
from labeldep_cli.reports.run_report.one_run import RunReport
from labeldep_cli.reports.thumbnails import thumbnails

PICTURES = 3_000_000
"""Characters of all thumbnails of a page together, which keeps it below 5 MB."""

CHOOSABLE = 2000
"""Rows that can be chosen at most, with pictures or without."""

LISTED = 12
"""Labels of an image that are listed at least, where there are so many: the sets' and the truth's, then by p."""


@dataclass(frozen=True)
class Choosable:
    """Rows that can be looked at one by one.

    Attributes:
        rows: of the split's usable rows, ascending.
        pictures: a data URI a row; empty where the image cannot be read, or there is none.
        records: a record a row, as the page's script reads them.
    """

    rows: list[int]
    pictures: list[str]
    records: list[dict[str, Any]]

    @property
    def unreadable(self) -> tuple[Skipped, ...]:
        """Images that can no longer be read; meaningless for ready features, which have no pictures."""
        named = zip(self.records, self.pictures, strict=True)
        return tuple(Skipped(record["name"], "can no longer be read") for record, picture in named if not picture)


def choosable(reports: Sequence[RunReport], shown: Sequence[PhotoGrid], reporter: Reporter) -> Choosable:
    """Make as many rows choosable as fit: those of the gallery first, then the split's in order."""
    first = reports[0].predictions
    listed = list(dict.fromkeys([*(row for grid in shown for row in grid.rows), *range(len(first.logits))]))[:CHOOSABLE]
    pictures = dict(zip(listed, _pictures(reports[0], listed, reporter), strict=False))
    rows = sorted(pictures)
    return Choosable(rows, [pictures[row] for row in rows], _records(reports, rows))


def _pictures(one: RunReport, rows: Sequence[int], reporter: Reporter) -> list[str]:
    if one.run.has_features:
        return [""] * len(rows)
    split = one.predictions.project.dataset.split(one.predictions.split)
    place = {path: row for row, path in enumerate(split.paths)}
    return thumbnails([split.file(place[one.predictions.inputs.paths[row]]) for row in rows], PICTURES, reporter)


def _records(reports: Sequence[RunReport], rows: list[int]) -> list[dict[str, Any]]:
    """By row: its name, how many labels each run has wrong, and its labels (those listed) with what is said of each.

    A label is [number, truth (1, 0, -1), which runs chose it (a bit a run), p of each run in thousandths, what each
    critic adds in hundredths (those of `asked` in order)].
    """
    added = [evidence(one, rows) for one in reports if asks_critic(one)]
    return [
        {
            "name": reports[0].predictions.inputs.paths[row],
            "wrong": [int(one.wrong[row]) for one in reports],
            "labels": [
                [
                    label,
                    int(reports[0].labels[row, label]),
                    sum(int(one.sets[row, label]) << one.number for one in reports),
                    [round(1000 * float(one.p[row, label])) for one in reports],
                    [round(100 * float(own[k, label])) for own in added],
                ]
                for label in _listed(reports, row)
            ],
        }
        for k, row in enumerate(rows)
    ]


def _listed(reports: Sequence[RunReport], row: int) -> list[int]:
    """The labels of a row worth listing: chosen or true ones and the most probable others, by their largest p."""
    p = np.max([one.p[row] for one in reports], axis=0)
    named = np.any([one.sets[row] for one in reports], axis=0) | (reports[0].labels[row] > 0)
    order = np.lexsort((-p, ~named))
    return [int(label) for label in order[: max(LISTED, int(named.sum()))]]


def asks_critic(one: RunReport) -> bool:
    """Whether it has a critic that val gave a weight."""
    return one.run.facts["critic"] is not None and bool(one.run.facts.get("beta"))


@torch.inference_mode()
def evidence(one: RunReport, rows: Sequence[int]) -> NDArray[np.float32]:
    """What the critic adds to the log-odds of each label, the others of the run's own set staying: [len(rows), L]."""
    z = one.predictions.features[list(rows)]
    sets = torch.from_numpy(one.sets[list(rows)]).to(z.device)
    weighted = one.run.facts["beta"] * critic_evidence(one.run.critic(z.device), sets, z)
    return np.asarray(weighted.cpu().numpy())
