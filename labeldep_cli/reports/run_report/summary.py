"""The first section of a report: scores with their protocol, and remarks on the differences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labeldep_cli.experiments import verdict
from labeldep_cli.experiments.comparison import Comparison
from labeldep_cli.reports import tables
from labeldep_cli.reports.run_report.one_run import RunReport, freezes, is_control

_GAINS = (("CF1", 0), ("CF1", 1), ("OF1", 1), ("mAP", 0), ("exact_match", 1))
"""Scores in which a run is compared with its control, each with a decision (0: p > 0.5, 1: tuned)."""


COLUMNS = (*tables.SUMMARY, "seen", "unseen")
"""The columns of `score_rows`."""


def score_rows(reports: Sequence[RunReport]) -> list[dict[str, Any]]:
    """One row per run and decision; `own` marks the decision that the page uses for the run."""
    return [
        {
            "run": report,
            "rule": tables.decision(record["decision"]),
            "own": k == report.own,
            "cells": [*tables.summary(record), *tables.seen_exact(record)],
        }
        for report in reports
        for k, record in enumerate(report.scores())
    ]


def protocol_rows(reports: Sequence[RunReport]) -> list[tuple[str, list[str]]]:
    """What the scores depend on: one row per property, one cell per run."""
    protocols = [_protocol(report) for report in reports]
    return [(name, [protocol[name] for protocol in protocols]) for name in protocols[0]]


def _protocol(report: RunReport) -> dict[str, str]:
    provenance = report.evaluations[0].provenance
    settings = report.run.config["settings"]
    return {
        "run": report.run.folder.name,
        "trained as": report.kind,
        "rows": f"{report.predictions.split} {provenance['ids_sha256'][:12]}, split seed {provenance['split_seed']}",
        "labels": provenance["labels_sha256"][:12],
        "data since training": report.predictions.data.words,
        "backbone": provenance["backbone"] or "ready features",
        "weights": (provenance["weights_sha256"] or "-")[:12],
        "transform": provenance["transform"] or "-",
        "mode": "full" if provenance["full"] else "head",
        "head": f"{report.run.head_kind}, loss {settings.get('loss', 'logistic')}",
        "step and seed": f"best at step {provenance['step']}, seed {provenance['seed']}",
        "checkpoint": provenance["checkpoint_sha256"][:12],
        "average precision": provenance["ap"],
        "versions": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
    }


def remarks(reports: Sequence[RunReport], compared: Comparison | None) -> list[str]:
    """Remarks that a reader needs before crediting a critic with a gain, one or two sentences each."""
    sentences = [verdict.unfinished(report.letter) for report in reports if not report.run.finished]
    if compared is not None:
        pairs = zip(reports[1:], compared.differences, strict=True)
        sentences += [
            f"{report.letter} compared with {reports[0].letter}: {difference.verdict}." for report, difference in pairs
        ]
    controls = [report for report in reports if is_control(report.run)]
    for report in reports:
        if report.run.facts["critic"] is None or freezes(report.run):
            continue
        sentences.append(_gain_over(controls[0], report) if controls else verdict.lacks_control(report.letter))
    return sentences


def _gain_over(control: RunReport, report: RunReport) -> str:
    scores, control_scores = report.scores(), control.scores()
    gains = [
        (name, "" if name == "mAP" else ("p > 0.5", "tuned")[k], scores[k][name] - control_scores[k][name])
        for name, k in _GAINS
    ]
    folders = control.run.folder.name, report.run.folder.name
    return verdict.gain_over_control(report.letter, control.letter, gains, folders)
