"""Does `labeldep audit` find planted mistakes? Labels are flipped at random, and `audit` searches for them.

Cells of the label matrix are flipped at random, seeded (`--kind`, `--noise`); features are unchanged. The rankings of
`audit`, of |y - p| and of cleanlab are scored by their average precision of finding the flipped cells. All use the same
cross-fitted p, computed by `audit`. cleanlab's self-confidence ranks cells as |y - p| does, so its other rankings are
used: confidence minus the label's mean (`adjust_pred_probs`), and the cells chosen by its filter first. Mistakes that
the data set already has count as correct labels, for every ranking.

The estimated number of mistakes is held against the flips and against cleanlab's confident joint, the order of the
cards against that of their highest scores: flips among the first 20 and 100 images. `--rare` adds images that are rare
but right and must not come first, `--weak` takes most of what the features show.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.mistakes import Mistakes, flips, rare_rows, weakened
from benchmarks.show import Table, show
from labeldep_cli.cli.show import Terminal
from labeldep_cli.config import AuditConfig, Machine, Source, Workspace
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.evaluation.audit import fit_weights, suspicion
from labeldep_cli.evaluation.evaluate import collect_features, probabilities
from labeldep_cli.files import make_folder
from labeldep_cli.pipelines.audit import Audit, audit_dataset
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job

WORK = Path("runs/audit-benchmark")
NOISE = 0.05
SEEDS = 3


def command(
    dataset: Annotated[str, typer.Argument(help="As for --dataset.")] = "scenes",
    backbone: Annotated[str | None, typer.Option(help="Of a data set of images.")] = None,
    weights: Annotated[str, typer.Option(help="Of the backbone.")] = "default",
    data_dir: Annotated[Path, typer.Option(help="Folder of the data sets and caches.")] = Path("data"),
    work: Annotated[Path, typer.Option(help="Folder of data sets with flips, and of their audits.")] = WORK,
    kind: Annotated[Mistakes, typer.Option(help="Which cells are flipped.")] = Mistakes.BOTH,
    noise: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of these cells.")] = NOISE,
    rare: Annotated[int, typer.Option(min=0, help="Added rows with label sets that are rare but right.")] = 0,
    weak: Annotated[bool, typer.Option("--weak", help="Show the networks few noisy features.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of flips, folds and networks.")] = SEEDS,
    first_seed: Annotated[int, typer.Option(min=0, help="Of these.")] = 0,
    folds: Annotated[int, typer.Option(min=2, help="As for audit.")] = AuditConfig.folds,
    repeats: Annotated[int, typer.Option(min=1, help="As for audit.")] = AuditConfig.repeats,
    steps: Annotated[int | None, typer.Option(min=1, help="As for audit.")] = AuditConfig.steps,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Average precision of finding flipped labels: audit, |y - p|, cleanlab."""
    config = AuditConfig(folds=folds, repeats=repeats, steps=steps)
    workspace = Workspace(data_dir, work / "runs")
    project = open_project(workspace, Source(dataset, backbone, weights), Machine(), Terminal())
    seed_range = range(first_seed, first_seed + seeds)
    found = run(project, work, config, Planting(kind, noise, rare, weak), seed_range, Terminal())
    header = ("ranking", *(f"seed {seed}" for seed in found["seeds"]), "mean")
    titles = {
        "cells": f"{found['dataset']}: {found['rows']} rows, {found['labels']} labels; AP of finding flipped cells",
        "images": "AP of finding images with a flipped cell",
    }
    tables = [Table(title, header, _rows(found[key])) for key, title in titles.items() if found[key]]
    tables.append(Table("numbers of mistakes, and the first images", header[:-1], _counts(found["counts"])))
    show(found, tables, json)


def _counts(found: Mapping[str, list[float]]) -> list[list[str]]:
    return [[name, *(f"{value:,.0f}" for value in values)] for name, values in found.items()]


def _rows(found: Mapping[str, list[float]]) -> list[list[str]]:
    return [[name, *(f"{value:.1f}" for value in values), f"{mean(values):.1f}"] for name, values in found.items()]


class Planting(NamedTuple):
    """What is planted: flips of a kind at a rate; number of rare rows; whether the features are weakened."""

    kind: Mistakes
    noise: float
    rare: int = 0
    weak: bool = False


def run(
    project: Project,
    work: Path,
    config: AuditConfig,
    planting: Planting,
    seeds: range,
    reporter: Reporter,
) -> dict[str, Any]:
    """Flip, audit and score, once per seed.

    Returns:
        `cells` and `images`: average precision of each ranking in per cent, a list over seeds; without flips, empty.
        `counts`: planted and estimated mistakes, and what is among the first cards.
    """
    there = [name for name in SPLITS if len(project.dataset.splits[name])]
    parts = ensure_inputs_together(project, dict.fromkeys(there, 1), full=False)
    x = torch.cat([collect_features(part) for part in parts]).cpu().numpy()
    clean = np.concatenate([part.labels.numpy() for part in parts])
    if planting.weak:
        x = weakened(x)
    n_own = len(x)
    if planting.rare:
        x_rare, y_rare = rare_rows(x, clean, planting.rare)
        x, clean = np.concatenate([x, x_rare]), np.concatenate([clean, y_rare])
    make_folder(work)
    counts: dict[str, list[float]] = {}
    cells: dict[str, list[float]] = {}
    images: dict[str, list[float]] = {}
    for seed in seeds:
        flipped = flips(clean, planting.kind, planting.noise, np.random.default_rng([seed, 1]))
        path = work / f"{project.dataset.name}-{seed}.npz"
        names = np.array(project.dataset.space.names)
        np.savez(path, X=x, Y=np.where(flipped, 1 - clean, clean), label_names=names)
        source = Source(str(path))
        job = Job(work / f"{project.dataset.name}-{seed}")
        own = replace(config, seed=seed, top=0)
        found = audit_dataset(Workspace(work, work / "runs"), source, Machine(), own, job, reporter)
        order = [int(row.removeprefix("row-")) for row in found.evidence.held_out.paths]
        for name, value in _numbers(found, flipped[order], np.array(order) >= n_own).items():
            counts.setdefault(name, []).append(value)
        if not flipped.any():
            continue
        for name, value in _cells(found, flipped[order]).items():
            cells.setdefault(name, []).append(value)
        for name, value in _images(found, flipped[order]).items():
            images.setdefault(name, []).append(value)
    return {
        "dataset": project.dataset.name,
        "rows": len(x),
        "labels": clean.shape[1],
        **planting._asdict(),
        "seeds": list(seeds),
        "counts": counts,
        "cells": cells,
        "images": images,
    }


def _numbers(found: Audit, flipped: NDArray[np.bool_], rare: NDArray[np.bool_]) -> dict[str, float]:
    """Planted and estimated mistakes; and images with a flip, or rare but right, among the first ones.

    Args:
        found: the audit.
        flipped: the flips [N, L], in the order of the audit's rows.
        rare: whether a row [N] is rare but right.
    """
    estimate = found.record.estimate
    place = {path: row for row, path in enumerate(found.evidence.held_out.paths)}
    orders = {
        "by score": np.argsort(-found.evidence.scores.max(axis=1), kind="stable"),
        "cards": np.array([place[card.path] for card in found.cards], int),
    }
    numbers = {
        "mAP, %": 100 * found.evidence.mean_ap,
        "planted": float(flipped.sum()),
        "estimate": estimate.number,
        "estimate, low": estimate.low,
        "estimate, high": estimate.high,
        "labels that the networks are sure of, %": 100 * estimate.sure,
        "cleanlab, confident joint": _confident_joint(found),
    }
    for name, order in orders.items():
        for first in (20, 100):
            numbers[f"{name}: with a flip among the first {first}, %"] = 100 * float(
                flipped[order[:first]].any(axis=1).mean()
            )
        numbers[f"{name}: rare but right among the first 100"] = float(rare[order[:100]].sum())
    return numbers


def _confident_joint(found: Audit) -> float:
    """The mistakes that cleanlab counts: the calibrated confident joint of each label, off its diagonal."""
    from cleanlab.count import compute_confident_joint

    held_out = found.evidence.held_out
    total = 0.0
    for z, y in zip(held_out.logits.T, held_out.labels.T, strict=True):
        known = y >= 0
        if len(np.unique(y[known])) == 2:
            p = probabilities(z[known])
            joint = compute_confident_joint(y[known].astype(int), np.stack([1 - p, p], axis=1), calibrate=True)
            total += float(joint[0, 1] + joint[1, 0])
    return total


def _cells(found: Audit, flipped: NDArray[np.bool_]) -> dict[str, float]:
    """Average precision of finding the flipped cells among those whose label is known."""
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    y, p = found.evidence.held_out.labels, probabilities(found.evidence.held_out.logits)
    sets = [np.flatnonzero(row > 0).tolist() for row in y]
    adjusted = 1 - get_label_quality_scores_per_class(sets, p, adjust_pred_probs=True)
    picked = np.asarray(find_multilabel_issues_per_class(sets, p))  # [N, L], though its docstring says [L][N]
    distance = np.abs(y - p)
    alone = fit_weights(found.evidence.held_out.logits, None, y)
    rankings = {
        "audit": found.evidence.scores,
        "audit without its critic": suspicion(alone.log_odds(found.evidence.held_out.logits, None), y),
        "|y - p|": distance,
        "cleanlab, self-confidence": 1 - get_label_quality_scores_per_class(sets, p),
        "cleanlab, adjusted": adjusted,
        "cleanlab, filter first": picked + distance,
    }
    return _scored(flipped, rankings)


def _images(found: Audit, flipped: NDArray[np.bool_]) -> dict[str, float]:
    """Average precision of finding the images with a flipped cell."""
    from cleanlab.multilabel_classification.rank import get_label_quality_scores

    y, p = found.evidence.held_out.labels, probabilities(found.evidence.held_out.logits)
    sets = [np.flatnonzero(row > 0).tolist() for row in y]
    rankings = {
        "audit, its worst label": found.evidence.scores.max(axis=1),
        "|y - p|, its worst label": np.abs(y - p).max(axis=1),
        "cleanlab": 1 - get_label_quality_scores(sets, p),
    }
    return _scored(np.asarray(flipped.any(axis=1)), rankings)


def _scored(wanted: NDArray[np.bool_], rankings: Mapping[str, NDArray[np.float64]]) -> dict[str, float]:
    from sklearn.metrics import average_precision_score

    return {name: 100 * float(average_precision_score(wanted.ravel(), s.ravel())) for name, s in rankings.items()}
