"""`labeldep audit`: find annotated labels of a data set that are likely to be mistakes."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import READING, AuditConfig, Machine, RunWorkspace, Source, Workspace, flags_of
from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.datasets.split import SPLITS, Skipped
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.audit import EvidenceWeights, fit_weights, most_suspicious, suspicion
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.experiments.cross_fitting import HeldOutScores, cross_fit, score_held_out
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.files import keep_dated, lock, make_folder, write_text
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.of_run import open_run_data
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.reports.page import render, thumbnail
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_and_announce

TABLE, PAGE, RUNS = "audit.csv", "audit.html", "runs"


@dataclass(frozen=True)
class Finding:
    """An annotated label that is likely to be a mistake.

    Attributes:
        path, split: the row.
        label: name of the label.
        written: whether the annotation says that it is present.
        score: log-odds that the annotation is wrong, given the image and the other labels; above 0.
        probability: G's probability that the label is present, from the image alone.
        critic: what D adds to the label's log-odds given the others, times its weight in the score; None without D.
        others: the other labels that are annotated as present.
    """

    path: str
    split: str
    label: str
    written: bool
    score: float
    probability: float
    critic: float | None
    others: tuple[str, ...]

    @property
    def suggested(self) -> str:
        """The opposite of the annotation: "absent" or "present"."""
        return "absent" if self.written else "present"

    def to_json(self) -> dict[str, Any]:
        """The columns of the table, as JSON."""
        return {
            "path": self.path,
            "split": self.split,
            "label": self.label,
            "written": "present" if self.written else "absent",
            "suggested": self.suggested,
            "score": self.score,
            "probability": self.probability,
            "critic": self.critic,
            "other_labels": list(self.others),
        }


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        of: the data set's name, or the run's folder.
        folder: the folder of table and gallery.
        findings: likely mistakes, the most suspicious first.
        n_images, n_labels: number of rows that were checked, and of their known labels.
        weights: the weights of G and D in the scores.
        scores: scores of all labels, [N, L]; -inf where a label is unknown.
        held_out: the outputs of G and D that the scores are computed from.
        skipped: rows that could not be checked.
        images_read: whether images were read, rather than only finished caches.
    """

    of: str
    folder: Path
    findings: tuple[Finding, ...]
    n_images: int
    n_labels: int
    weights: EvidenceWeights
    scores: NDArray[np.float64]
    held_out: HeldOutScores
    skipped: tuple[Skipped, ...]
    images_read: bool

    @property
    def table(self) -> Path:
        """The findings as CSV."""
        return self.folder / TABLE

    @property
    def gallery(self) -> Path:
        """The page with the first of them."""
        return self.folder / PAGE

    def to_json(self) -> dict[str, Any]:
        """One JSON object, with all findings."""
        return {
            "audited": self.of,
            "table": str(self.table),
            "gallery": str(self.gallery),
            "n_images": self.n_images,
            "n_labels": self.n_labels,
            "n_findings": len(self.findings),
            "weights": vars(self.weights),
            "findings": [finding.to_json() for finding in self.findings],
            "skipped": [skip.to_json() for skip in self.skipped],
        }


def audit_dataset(
    workspace: Workspace, source: Source, machine: Machine, config: AuditConfig, job: Job, reporter: Reporter
) -> Audit:
    """Audit all rows of a data set, each with networks that were trained without it.

    Args:
        workspace, source, machine: as for training in head mode.
        config: number of folds, training settings, number of findings on the page.
        job: the folder of table, gallery and the folds' runs.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: a problem with data, weights, caches, the disk or the contents of the folder.
    """
    folder = job.out or Path()
    project = open_project(workspace, source, machine, reporter)
    make_folder(folder)
    with lock(folder / ".lock", str(folder)):

        def restarts() -> None:
            kept = keep_dated(folder / TABLE)
            former = f"; the former table is kept as {kept}" if kept else ""
            reporter.note(f"rows or labels have changed since the last audit: its folds are trained again{former}")

        held_out, parts = cross_fit(project, config, Job(folder / RUNS, job.fresh), restarts)
        return _audit(project, project.dataset.name, held_out, 1.0, config, folder, project.skipped(*parts))


def audit_run(
    run_workspace: RunWorkspace,
    run_name: str,
    machine: Machine,
    split: str | None,
    weights: str | None,
    config: AuditConfig,
    folder: Path,
    reporter: Reporter,
) -> Audit:
    """Audit rows that a run was not trained on, with the run's G, and with its D if it has one.

    Args:
        run_workspace: the folder of the runs, and the data set to audit.
        run_name: as `find_run` takes it.
        machine: the device to compute on.
        split: val or test; None for both.
        weights: a path that replaces the recorded one.
        config: number of findings on the page.
        folder: the folder for table and gallery.
        reporter: takes notes and progress.

    Raises:
        CheckpointError: there is no such run, or the split is train, whose labels the run has learnt.
        LabeldepError: the run's data set is missing, its weights have changed, or it was trained on most rows of the
            split.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    if split == "train":
        source = run.source()
        raise CheckpointError(
            f"{run.folder} has learnt the annotated labels of train, mistakes and all: it cannot audit them",
            "Audit the data set instead. Each row is then scored by networks trained without it: "
            f"labeldep audit {shlex.join([source.dataset, *flags_of(source, ('backbone', 'weights', *READING))])}",
        )
    if run.facts["critic"] is None:
        reporter.note(f"{run.folder} has no critic: labels are scored from the image alone")
    project, data = open_run_data(run, run_workspace, weights, machine, reporter)
    names = [name for name in SPLITS[1:] if split == name or (split is None and len(project.dataset.splits[name]))]
    names = names[-1:] if project.dataset.undivided else names  # there each split is all rows
    make_folder(folder)
    with lock(folder / ".lock", str(folder)):
        parts, skipped = list[HeldOutScores](), tuple[Skipped, ...]()
        for name in names:
            project, data = data.held_out(project, name, reporter)
            inputs = ensure_inputs(project, name, run.full)
            parts.append(score_held_out(run, inputs, name, project.device))
            skipped += inputs.skipped
        beta = run.facts.get("beta")
        expected = 1.0 if beta is None else float(beta)
        return _audit(project, str(run.folder), HeldOutScores.joined(parts), expected, config, folder, skipped)


def _audit(
    project: Project,
    of: str,
    held_out: HeldOutScores,
    expected: float,
    config: AuditConfig,
    folder: Path,
    skipped: tuple[Skipped, ...],
) -> Audit:
    """Weigh the outputs of G and D, rank the labels, and write table and gallery."""
    known = held_out.labels >= 0
    if not known.any():
        raise LabeldepError(f"all labels of {of} are unknown", "There is nothing to audit: annotate some rows.")
    weights = fit_weights(held_out.logits, held_out.evidence, held_out.labels, expected)
    scores = suspicion(weights.log_odds(held_out.logits, held_out.evidence), held_out.labels)
    cells = most_suspicious(scores)
    findings = tuple(_finding(project, held_out, weights, scores, *cell) for cell in cells)
    write_text(folder / TABLE, table(findings))
    n_images = len(held_out.labels)
    audit = Audit(
        of, folder, findings, n_images, int(known.sum()), weights, scores, held_out, skipped, bool(project.images_read)
    )
    write_text(folder / PAGE, gallery(audit, _pictures(project, findings[: config.top])))
    return audit


def _finding(
    project: Project,
    held_out: HeldOutScores,
    weights: EvidenceWeights,
    scores: NDArray[np.float64],
    row: int,
    label: int,
) -> Finding:
    names = project.dataset.space.names
    others = (name for k, name in enumerate(names) if k != label and held_out.labels[row, k] > 0)
    return Finding(
        held_out.paths[row],
        held_out.splits[row],
        names[label],
        bool(held_out.labels[row, label] > 0),
        float(scores[row, label]),
        float(probabilities(held_out.logits[row, label])),
        None if held_out.evidence is None else weights.critic * float(held_out.evidence[row, label]),
        tuple(others),
    )


def table(findings: Sequence[Finding]) -> str:
    """The findings as CSV; the other labels are separated by `;`."""
    stream = io.StringIO()
    names = ("path", "split", "label", "written", "suggested", "score", "probability", "critic", "other_labels")
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for finding in findings:
        critic = "" if finding.critic is None else f"{finding.critic:.6g}"
        rounded = {"score": f"{finding.score:.6g}", "probability": f"{finding.probability:.6g}", "critic": critic}
        writer.writerow({**finding.to_json(), **rounded, "other_labels": ";".join(finding.others)})
    return stream.getvalue()


def gallery(audit: Audit, pictures: Sequence[str | None]) -> str:
    """The first findings as an HTML page; `pictures` are data URIs of their images, or None."""
    shown = list(zip(audit.findings, pictures, strict=False))
    return render("audit.html.j2", audit=audit, shown=shown, table=TABLE)


def _pictures(project: Project, findings: Sequence[Finding]) -> list[str | None]:
    """A thumbnail of each finding's image; None if there is no image, or if it can no longer be read."""
    if project.dataset.has_features:
        return [None] * len(findings)
    rows = {
        name: {path: row for row, path in enumerate(project.dataset.splits[name].paths)}
        for name in {finding.split for finding in findings}
    }
    files = [project.dataset.splits[finding.split].file(rows[finding.split][finding.path]) for finding in findings]
    return [_picture(file, project.rules) for file in files]


def _picture(file: ImageFile, rules: PixelRules) -> str | None:
    try:
        return thumbnail(file, rules)
    except UnreadableImage:
        return None
