"""The report's first section: scores with their protocol, and what may be said of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labeldep_cli.experiments import verdict
from labeldep_cli.experiments.comparison import Comparison
from labeldep_cli.reports import tables
from labeldep_cli.reports.run_report.one_run import RunReport, freezes, is_control

_GAINS = (("CF1", 0), ("CF1", 1), ("OF1", 1), ("mAP", 0), ("exact_match", 1))
"""Score and decision (0: p > 0.5, 1: tuned) of what a run has over its control."""


def score_rows(reports: Sequence[RunReport]) -> list[dict[str, Any]]:
    """A row a run and decision; `own` marks the one that the page goes by."""
    return [
        {
            "run": one,
            "rule": tables.decision(record["decision"]),
            "own": k == one.own,
            "cells": tables.summary(record),
        }
        for one in reports
        for k, record in enumerate(one.scores())
    ]


def protocol_rows(reports: Sequence[RunReport]) -> list[tuple[str, list[str]]]:
    """What the scores hang on, a row a property with a cell a run."""
    told = [_protocol(one) for one in reports]
    return [(name, [record[name] for record in told]) for name in told[0]]


def _protocol(one: RunReport) -> dict[str, str]:
    found = one.evaluations[0].provenance
    settings = one.run.config["settings"]
    return {
        "run": one.run.folder.name,
        "trained as": one.kind,
        "rows": f"{one.predictions.split} {found['ids_sha256'][:12]}, split seed {found['split_seed']}",
        "labels": found["labels_sha256"][:12],
        "data since training": one.predictions.data.words,
        "backbone": found["backbone"] or "ready features",
        "weights": (found["weights_sha256"] or "-")[:12],
        "transform": found["transform"] or "-",
        "mode": "full" if found["full"] else "head",
        "head": f"{one.run.head_kind}, loss {settings.get('loss', 'logistic')}",
        "step and seed": f"best at step {found['step']}, seed {found['seed']}",
        "checkpoint": found["checkpoint_sha256"][:12],
        "average precision": found["ap"],
        "versions": ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
    }


def remarks(reports: Sequence[RunReport], compared: Comparison | None) -> list[str]:
    """What a reader must know before crediting a critic with a gain, a sentence or two each."""
    told = [verdict.unfinished(one.letter) for one in reports if not one.run.finished]
    if compared is not None:
        pairs = zip(reports[1:], compared.differences, strict=True)
        told += [f"{one.letter} beside {reports[0].letter}: {difference.verdict}." for one, difference in pairs]
    controls = [one for one in reports if is_control(one.run)]
    for one in reports:
        if one.run.facts["critic"] is None or freezes(one.run):
            continue
        told.append(_beside_control(one, controls[0]) if controls else verdict.lacks_control(one.letter))
    return told


def _beside_control(one: RunReport, control: RunReport) -> str:
    mine, theirs = one.scores(), control.scores()
    gains = [
        (name, "" if name == "mAP" else ("p > 0.5", "tuned")[k], mine[k][name] - theirs[k][name]) for name, k in _GAINS
    ]
    folders = control.run.folder.name, one.run.folder.name
    return verdict.gain_over_control(one.letter, control.letter, gains, folders)
