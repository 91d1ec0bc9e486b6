"""The report's section on confidence: how many sets can be accepted, and how often they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from labeldep_cli.evaluation.decisions import Decided
from labeldep_cli.evaluation.risk import PRECISIONS, RiskCoverage, exactly_right, risk_coverage
from labeldep_cli.reports.figure import Line, figure
from labeldep_cli.reports.run_report.one_run import RunReport

HEAD = ("AURC", "excess", *(f"at {precision} %" for precision in PRECISIONS), "ECE", "by chance")
"""The columns of the table, after the run and its sets."""

_POINTS = 200
"""Points of a line, in even steps of coverage."""

_MARKED = 0.95


def risk_figure(reports: Sequence[RunReport]) -> Markup | None:
    """Risk by coverage of each run's own sets, and as a thin line that of independent labels; None without labels."""
    lines = []
    for report in reports:
        for decided, thin in ((report.decided, False), (report.predictions.independent, True)):
            curve = _curve(report, decided)
            if curve is None:
                return None
            lines.append(_line(report, curve, thin))
    description = (
        "Share of accepted sets that are wrong, by the share that is accepted, the most confident first. One line per "
        "run for its own sets, and a thin one for independent labels; the marker is where 95 % are right"
    )
    return figure("risk", "Risk and coverage", description, "accepted, % of images", "wrong, % of accepted", lines)


def confidence_rows(reports: Sequence[RunReport]) -> list[dict[str, Any]]:
    """Two rows per run, its own sets and those of independent labels: `run`, `rule`, `cells`, and whether it is `own`.

    Runs without a row with known labels have no rows.
    """
    rows = []
    for report in reports:
        own = report.evaluations[report.own].confidence
        if own["AURC"] is not None:
            rows += [
                {"run": report, "rule": report.rule, "own": True, "cells": _cells(own)},
                {"run": report, "rule": "independent, p > 0.5", "own": False, "cells": _cells(own["independent"])},
            ]
    return rows


def _cells(scores: dict[str, Any]) -> list[str]:
    coverage = [f"{share:.1f}" for share in scores["coverage"].values()]
    ece = f"{scores['ECE']:.1f}" + ("" if scores["calibrated"] else " (not calibrated)")
    return [f"{scores['AURC']:.2f}", f"{scores['AURC_excess']:.2f}", *coverage, ece, f"{scores['ECE_by_chance']:.1f}"]


def _curve(report: RunReport, decided: Decided) -> RiskCoverage | None:
    scored, right = exactly_right(decided.sets, report.labels)
    return risk_coverage(decided.confidence[scored], right) if len(right) else None


def _line(report: RunReport, curve: RiskCoverage, thin: bool) -> Line:
    coverage, risk = curve.coverage, curve.risk
    steps = np.searchsorted(coverage, np.linspace(0, 100, _POINTS))
    kept = np.unique(np.minimum(steps, len(coverage) - 1))
    index = curve.index_at(_MARKED)
    marks = [] if index is None else [(float(coverage[index]), float(risk[index]), not thin)]
    return Line(report.number, report.letter, coverage[kept], risk[kept], marks, thin)
