"""The images that a reader of the report can open, and the evidence for each of their labels."""

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
"""Maximum length of all thumbnails of a page together, in characters; it keeps the page below 5 MB."""

CHOOSABLE = 2000
"""Maximum number of rows that can be opened, with or without pictures."""

LISTED = 12
"""Labels listed per image: those of the predicted and true sets, then the most probable ones up to this number."""

MOST_EVIDENCE = 10.0
"""Evidence beyond this log-odds (22,000 to 1) is shown as this: a set that train lacks may be excluded altogether."""


@dataclass(frozen=True)
class Choosable:
    """Rows that can be opened one by one.

    Attributes:
        rows: their positions among the split's usable rows, ascending.
        pictures: one data URI per row; empty if the image cannot be read, or if there is none.
        records: one record per row, as the page's script reads them.
    """

    rows: list[int]
    pictures: list[str]
    records: list[dict[str, Any]]

    @property
    def unreadable(self) -> tuple[Skipped, ...]:
        """Images that can no longer be read. Not meaningful for ready features, which have no pictures."""
        named = zip(self.records, self.pictures, strict=True)
        return tuple(Skipped(record["name"], "can no longer be read") for record, picture in named if not picture)


def choosable(reports: Sequence[RunReport], shown: Sequence[PhotoGrid], reporter: Reporter) -> Choosable:
    """Choose as many rows as fit on the page: those of the gallery first, then the split's rows in order."""
    first = reports[0].predictions
    listed = list(dict.fromkeys([*(row for grid in shown for row in grid.rows), *range(len(first.logits))]))[:CHOOSABLE]
    pictures = dict(zip(listed, _pictures(reports[0], listed, reporter), strict=False))
    rows = sorted(pictures)
    return Choosable(rows, [pictures[row] for row in rows], _records(reports, rows))


def _pictures(report: RunReport, rows: Sequence[int], reporter: Reporter) -> list[str]:
    if report.run.has_features:
        return [""] * len(rows)
    split = report.predictions.project.dataset.split(report.predictions.split)
    place = {path: row for row, path in enumerate(split.paths)}
    files = [split.file(place[report.predictions.inputs.paths[row]]) for row in rows]
    return thumbnails(files, report.predictions.project.rules, PICTURES, reporter)


def _records(reports: Sequence[RunReport], rows: list[int]) -> list[dict[str, Any]]:
    """One record per row: its name, how many labels each run has wrong, and the listed labels.

    A label is [number, truth (1, 0, -1), runs that chose it (one bit per run), p of each run in thousandths, what each
    critic adds in hundredths (one value per run of which `asks_critic` is true, in order)].
    """
    listed = [_listed(reports, row) for row in rows]
    width = max(map(len, listed), default=0)
    asked = np.array([labels + labels[:1] * (width - len(labels)) for labels in listed], np.int64)  # rows of one length
    added = [evidence(report, rows, asked) for report in reports if asks_critic(report)]
    return [
        {
            "name": reports[0].predictions.inputs.paths[row],
            "wrong": [int(report.wrong[row]) for report in reports],
            "labels": [
                [
                    label,
                    int(reports[0].labels[row, label]),
                    sum(int(report.sets[row, label]) << report.number for report in reports),
                    [round(1000 * float(report.p[row, label])) for report in reports],
                    [round(100 * float(evidence_of_run[k, place])) for evidence_of_run in added],
                ]
                for place, label in enumerate(listed[k])
            ],
        }
        for k, row in enumerate(rows)
    ]


def _listed(reports: Sequence[RunReport], row: int) -> list[int]:
    """The labels to list for a row: the chosen and true ones, then the most probable others, by their largest p."""
    p = np.max([report.p[row] for report in reports], axis=0)
    named = np.any([report.sets[row] for report in reports], axis=0) | (reports[0].labels[row] > 0)
    order = np.lexsort((-p, ~named))
    return [int(label) for label in order[: max(LISTED, int(named.sum()))]]


def asks_critic(report: RunReport) -> bool:
    """Whether the run has a critic with a weight other than 0, chosen on val."""
    return report.run.facts["critic"] is not None and bool(report.run.facts.get("beta"))


@torch.inference_mode()
def evidence(report: RunReport, rows: Sequence[int], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the critic adds to the log-odds of some labels of each row [R, M], given the others of its set: [R, M]."""
    facts, z = report.run.facts, report.predictions.features[list(rows)]
    sets = torch.from_numpy(report.sets[list(rows)]).to(z.device)
    asked = torch.from_numpy(labels).to(z.device)
    weighted = facts["beta"] * critic_evidence(report.run.critic(z.device), sets, z, asked).cpu().numpy()
    logits = np.take_along_axis(report.predictions.logits[list(rows)], labels, axis=1)
    instead = (1 - facts.get("prior", 1.0)) * logits  # the generator's part that is lost
    return np.asarray(np.clip(weighted - instead, -MOST_EVIDENCE, MOST_EVIDENCE), dtype=np.float32)
