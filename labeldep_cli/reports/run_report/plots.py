"""The report's figures: scores as a function of the threshold, and the course of training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from labeldep_cli.evaluation.curves import Curve, by_threshold, precision_recall
from labeldep_cli.reports.figure import Line, figure
from labeldep_cli.reports.quantities import name_of
from labeldep_cli.reports.run_report.one_run import RunReport
from labeldep_cli.runs.layout import read_metrics

_ON_VAL = {"CF1": ", p > 0.5", "mAP": "", "exact_match": ", p > 0.5", "labels_per_image": ", p > 0.5"}
"""The scores on val that have a figure, and the decision that they depend on."""

_Histories = Sequence[tuple[RunReport, Sequence[Mapping[str, Any]]]]


def score_figures(reports: Sequence[RunReport]) -> list[Markup]:
    """Precision against recall, and F1 by threshold and by labels per image; one line per run."""
    curves = [by_threshold(report.p, report.labels) for report in reports]
    pooled = [precision_recall(report.p, report.labels) for report in reports]
    best = ", ".join(f"{report.letter} {curve.OF1.max():.1f}" for report, curve in zip(reports, curves, strict=True))
    recall = [_line(report, curve, "OR", "OP") for report, curve in zip(reports, pooled, strict=True)]
    description = "Precision against recall of all decisions pooled, one line per run"
    figures = [figure("recall", "Precision and recall", description, "OR (recall)", "OP (precision)", recall)]
    for score in ("CF1", "OF1"):
        lines = [_line(report, curve, "thresholds", score) for report, curve in zip(reports, curves, strict=True)]
        description = f"{score} by threshold, one line per run; the best OF1 of any threshold on this split: {best}"
        figures.append(figure(f"by-threshold-{score}", f"{score} by threshold", description, "threshold", score, lines))
    most = 2 * max(record["true_labels_per_image"] for record in reports[0].scores())
    for score in ("CF1", "OF1"):
        parts = [_up_to(curve, most) for curve in curves]
        lines = [_line(report, part, "labels_per_image", score) for report, part in zip(reports, parts, strict=True)]
        description = f"{score} by the number of predicted labels an image, one line per run"
        title = f"{score} by labels an image"
        figures.append(figure(f"by-labels-{score}", title, description, "labels an image", score, lines))
    return figures


def _up_to(curve: Curve, most: float) -> Curve:
    """The part of a curve that predicts at most `most` labels per image."""
    kept = curve.labels_per_image <= max(most, curve.labels_per_image.min())
    return Curve(**{name: values[kept] for name, values in vars(curve).items()})


def _line(report: RunReport, curve: Curve, x: str, y: str) -> Line:
    """A run's curve with a marker per decision: hollow for p > 0.5, filled for the tuned threshold and the critic."""
    marks = []
    for k, record in enumerate(report.scores()):
        at = record["decision"].get("threshold") if x == "thresholds" else record[x]
        if at is not None:
            marks.append((float(at), float(record[y]), k > 0))
    return Line(report.number, report.letter, getattr(curve, x), getattr(curve, y), marks)


def training_figures(reports: Sequence[RunReport]) -> list[Markup]:
    """One figure per quantity that training recorded, with one line per run that recorded it."""
    histories = [(report, read_metrics(report.run.folder)) for report in reports]
    recorded = dict.fromkeys(name for _, history in histories for record in history for name in record)
    titles = {name: _title(name) for name in recorded if name not in ("step", "val")}
    scores = {name: f"{_title(name)} on val{decided}" for name, decided in _ON_VAL.items()}
    on_val = [(report, [{"step": r["step"], **r["val"]} for r in history]) for report, history in histories]
    return [
        *_training(histories, titles, "training"),
        *_training(on_val, scores, "val"),
    ]


def _title(quantity: str) -> str:
    name = name_of(quantity)
    return name if name == "mAP" else name[0].upper() + name[1:]


def _training(histories: _Histories, titles: Mapping[str, str], name: str) -> Iterator[Markup]:
    """One figure per title that at least one run has records of."""
    for key, title in titles.items():
        lines = [_over_steps(report, [(r["step"], r[key]) for r in h if key in r]) for report, h in histories]
        if any(len(line.x) for line in lines):
            description = "By training step, one line per run; the marker is the checkpoint that was kept"
            yield figure(f"{name}-{key}", title, description, "step", "", [line for line in lines if len(line.x)])


def _over_steps(report: RunReport, points: Sequence[tuple[int, float]]) -> Line:
    best = [(float(step), value, True) for step, value in points if step == report.run.facts["step"]]
    return Line(report.number, report.letter, [step for step, _ in points], [value for _, value in points], best)
