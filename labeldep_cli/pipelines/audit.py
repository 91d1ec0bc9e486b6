"""`labeldep audit`: find annotated labels of a data set that are likely to be mistakes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.config import BACKBONE, READING, AuditConfig, Machine, RunWorkspace, Source, Workspace, flags_of
from labeldep_cli.datasets.split import SPLITS, Skipped
from labeldep_cli.datasets.twins import TwinReport
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.audit import audited_labels, fit_weights
from labeldep_cli.evaluation.mistakes import Reviewed, estimate_mistakes
from labeldep_cli.evaluation.suspects import Card, Suspect
from labeldep_cli.experiments.audit_cards import Evidence
from labeldep_cli.experiments.audit_record import RECORD, AuditRecord, former_audit, verdicts
from labeldep_cli.experiments.contradictions import contradictions
from labeldep_cli.experiments.cross_fitting import HeldOutScores, cross_fit, score_held_out
from labeldep_cli.files import keep_dated, lock, make_folder, write_text
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.of_run import open_run_data
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.twins import twins_in
from labeldep_cli.reports.findings import by_score, finding, table
from labeldep_cli.reports.page import render
from labeldep_cli.review.shared_page import page_data
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_and_announce

TABLE, PAGE, RUNS = "audit.csv", "audit.html", "runs"


@dataclass(frozen=True)
class Audit:
    """The result of an audit.

    Attributes:
        record: what `audit.json` has: the cards, the estimated number of mistakes.
        folder: the folder of record, table and gallery.
        n_images, n_labels: number of rows that were checked, and of their known labels.
        evidence: the outputs of G and D, their weights, and the scores of all labels.
        skipped: rows that could not be checked.
        images_read: whether images were read, rather than only finished caches.
        near_identical: images that look the same; those of a run's data are not compared.
    """

    record: AuditRecord
    folder: Path
    n_images: int
    n_labels: int
    evidence: Evidence
    skipped: tuple[Skipped, ...]
    images_read: bool
    near_identical: TwinReport = field(default_factory=TwinReport)

    @property
    def of(self) -> str:
        """The data set's name, or the run's folder."""
        return self.record.of

    @property
    def cards(self) -> tuple[Card, ...]:
        """The images with suspects, the first to look at first."""
        return self.record.cards

    @property
    def findings(self) -> list[tuple[Card, Suspect]]:
        """All suspects, the highest score first."""
        return by_score(self.cards)

    @property
    def table(self) -> Path:
        """The suspects as CSV."""
        return self.folder / TABLE

    @property
    def gallery(self) -> Path:
        """The page with the first cards."""
        return self.folder / PAGE

    def to_json(self) -> dict[str, Any]:
        """One JSON object, with all findings and all cards."""
        findings = [finding(card, suspect) for card, suspect in self.findings]
        return {
            "audited": self.of,
            "record": str(self.folder / RECORD),
            "table": str(self.table),
            "gallery": str(self.gallery),
            "n_images": self.n_images,
            "n_labels": self.n_labels,
            "labels_left_out": self.evidence.n_left_out,
            "n_findings": len(findings),
            "n_rare_combinations": sum(suspect.kind == "rare combination" for _, suspect in self.findings),
            "n_decided": self.record.n_decided,
            "contradictions": [contradiction._asdict() for contradiction in self.record.contradictions],
            "estimate": self.record.estimate.to_json(),
            "weights": vars(self.evidence.weights),
            "findings": findings,
            "cards": [card.to_json() for card in self.cards],
            "skipped": [skip.to_json() for skip in self.skipped],
            "near_identical": self.near_identical.to_json(),
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
        audit = _audit(project, project.dataset.name, held_out, 1.0, config, folder, project.skipped(*parts))
        return replace(audit, near_identical=twins_in(project))


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
            f"labeldep audit {shlex.join([source.dataset, *flags_of(source, (*BACKBONE, *READING))])}",
        )
    if run.facts["critic"] is None:
        reporter.note(f"{run.folder} has no critic: labels are scored from the image alone")
    project, data = open_run_data(run, run_workspace, weights, machine, reporter)
    names = [name for name in SPLITS[1:] if split == name or (split is None and len(project.dataset.splits[name]))]
    names = names[-1:] if project.dataset.undivided else names  # there each split is all rows
    audited = audited_labels(project.dataset.splits[name].labels for name in names)
    make_folder(folder)
    with lock(folder / ".lock", str(folder)):
        parts, skipped = list[HeldOutScores](), tuple[Skipped, ...]()
        for name in names:
            project, data = data.held_out(project, name, reporter)
            inputs = ensure_inputs(project, name, run.full)
            parts.append(score_held_out(run, inputs, name, audited, project.device))
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
    """Weigh the outputs of G and D, rank the labels, and write record, table and gallery."""
    n_known = int((held_out.labels >= 0).sum())
    if n_known == 0:
        raise LabeldepError(f"all labels of {of} are unknown", "There is nothing to audit: annotate some rows.")
    names = project.dataset.space.names
    weights = fit_weights(held_out.logits, held_out.evidence, held_out.labels, expected)
    evidence = Evidence(names, held_out, weights)
    if evidence.n_left_out:
        project.reporter.note(f"the {evidence.n_left_out} rarest labels are not audited")
    decided = project.dataset.corrections.decided if project.dataset.corrections else frozenset[str]()
    judged = verdicts(former_audit(folder, of, project.reporter), decided, evidence.present(decided))
    reviewed = [Reviewed(verdict.score, verdict.mistake) for verdict in judged]
    is_open = np.array([path not in decided for path in held_out.paths], bool)  # others have no mistakes any more
    estimate = estimate_mistakes(
        evidence.log_odds[is_open], evidence.labels[is_open], evidence.mean_ap, config.seed, reviewed
    )
    cards = evidence.cards(decided)
    n_decided = len(decided.intersection(held_out.paths))
    record = AuditRecord(
        _absolute(project),
        project.workspace.data_dir.absolute(),
        of,
        tuple(names),
        estimate,
        cards,
        n_decided,
        judged,
        contradictions(project),
    )
    write_text(folder / TABLE, table(cards))
    record.write(folder)
    audit = Audit(record, folder, len(held_out.sets), n_known, evidence, skipped, bool(project.images_read))
    write_text(
        folder / PAGE, gallery(audit, page_data(project.dataset, cards[: config.top], project.rules, project.reporter))
    )
    return audit


def _absolute(project: Project) -> Source:
    """The settings that open the data set from any working directory."""
    if project.dataset.named:
        return project.source
    return replace(project.source, dataset=str(Path(project.source.dataset).absolute()))


def gallery(audit: Audit, shown: dict[str, Any]) -> str:
    """The first cards as an HTML page, on which somebody without labeldep can decide; for `shown`, see `page_data`."""
    return render("audit.html.j2", audit=audit, shown=shown, table=TABLE)
