"""`labeldep report`: one self-contained HTML page about one or more runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import Machine, RunWorkspace
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.errors import LabeldepError
from labeldep_cli.experiments.comparison import differences
from labeldep_cli.experiments.paired import open_paired, predict_paired
from labeldep_cli.experiments.scores import predict_split
from labeldep_cli.files import make_folder, write_text
from labeldep_cli.progress import Reporter
from labeldep_cli.reports.figure import RUNS
from labeldep_cli.reports.page import render
from labeldep_cli.reports.run_report.confidence import HEAD, confidence_rows, risk_figure
from labeldep_cli.reports.run_report.gallery import photo_grids
from labeldep_cli.reports.run_report.images import asks_critic, choosable
from labeldep_cli.reports.run_report.labels import label_rows, pairing
from labeldep_cli.reports.run_report.one_run import RunReport, run_reports
from labeldep_cli.reports.run_report.plots import score_figures, training_figures
from labeldep_cli.reports.run_report.summary import COLUMNS, protocol_rows, remarks, score_rows
from labeldep_cli.runs.find import open_and_announce


@dataclass(frozen=True)
class Report:
    """A page that was written.

    Attributes:
        file: path of the page.
        size: size of the page in bytes.
        dataset, split: names of the data set and the split.
        runs: folders of the runs, by letter.
        n_images: number of images that were scored.
        n_choosable: number of images that can be selected on the page.
        skipped: rows of the split whose image could not be read.
        unreadable: rows that can be selected but whose image can no longer be read; the page has no picture of them.
        images_read: whether images were read for scoring. If not, cached features were complete.
    """

    file: Path
    size: int
    dataset: str
    split: str
    runs: dict[str, str]
    n_images: int
    n_choosable: int
    skipped: tuple[Skipped, ...]
    unreadable: tuple[Skipped, ...]
    images_read: bool

    def to_json(self) -> dict[str, Any]:
        """The object that `report --json` prints."""
        return {
            "file": str(self.file),
            "bytes": self.size,
            "dataset": self.dataset,
            "split": self.split,
            "runs": self.runs,
            "n_images": self.n_images,
            "n_choosable": self.n_choosable,
            "skipped": [skip.to_json() for skip in self.skipped],
            "unreadable": [skip.to_json() for skip in self.unreadable],
        }


def report(
    run_workspace: RunWorkspace,
    names: Sequence[str],
    machine: Machine,
    split: str,
    seed: int,
    out: Path,
    reporter: Reporter,
) -> Report:
    """Write a page about runs.

    Args:
        run_workspace: the folder of the runs, and the data set to score.
        names: names of the runs, at least one; each is compared with the first.
        machine: the device and the limits.
        split: name of the split to score.
        seed: seed of the resampling and of the sampled sets.
        out: path of the page.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: there is no such run; there are more runs than colours; or the runs cannot be compared, as in
            `compare`.
    """
    if len(names) > len(RUNS):
        raise LabeldepError(
            f"{len(names)} runs are too many for one page: it has colours for {len(RUNS)}", "Name fewer runs."
        )
    make_folder(out.parent)  # first, so that an unwritable place is reported before the computation
    if len(names) == 1:  # a single run may be unfinished
        run = open_and_announce(names[0], run_workspace, reporter)
        reports = run_reports([predict_split(run, run_workspace, machine, split, None, reporter)])
    else:
        runs = open_paired(names, run_workspace, split, reporter, ordered=True)
        reports = run_reports(list(predict_paired(runs, run_workspace, machine, split, reporter)))
    return _write(reports, seed, out, reporter)


def _write(reports: Sequence[RunReport], seed: int, out: Path, reporter: Reporter) -> Report:
    first = reports[0].predictions
    compared = differences([report.predictions for report in reports], seed) if len(reports) > 1 else None
    shown = photo_grids(reports)
    chosen = choosable(reports, shown, reporter)
    page = render(
        "report.html.j2",
        dataset=first.project.dataset.name,
        split=first.split,
        n_images=len(first.logits),
        space=first.run.space.names,
        true_labels_per_image=reports[0].evaluations[0].scores.true_labels_per_image,
        skipped=len(first.inputs.skipped),
        has_images=not first.run.has_features,
        runs=reports,
        colours=RUNS,
        columns=COLUMNS,
        scores=score_rows(reports),
        protocol=protocol_rows(reports),
        remarks=remarks(reports, compared),
        score_figures=score_figures(reports),
        risk_figure=risk_figure(reports),
        confidence_columns=HEAD,
        confidences=confidence_rows(reports),
        training_figures=training_figures(reports),
        labels=label_rows(reports),
        pairing=pairing(reports, seed),
        photo_grids=shown,
        chosen=chosen,
        critics=[report for report in reports if asks_critic(report)],
    )
    write_text(out, page)
    runs = {report.letter: str(report.run.folder) for report in reports}
    return Report(
        out,
        len(page.encode()),
        first.project.dataset.name,
        first.split,
        runs,
        len(first.logits),
        len(chosen.rows),
        first.inputs.skipped,
        () if first.run.has_features else chosen.unreadable,
        any(report.predictions.project.images_read for report in reports),
    )
