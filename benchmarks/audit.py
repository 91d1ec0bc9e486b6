"""Does `labeldep audit` find planted mistakes? Labels are flipped at random, and `audit` searches for them.

Every cell of the label matrix is flipped with probability NOISE, seeded; features are unchanged. The rankings of
`audit`, of |y - p| and of cleanlab are scored by their average precision of finding the flipped cells. All use the same
cross-fitted p, computed by `audit`. cleanlab's self-confidence ranks cells as |y - p| does, so its other rankings are
used: confidence minus the label's mean (`adjust_pred_probs`), and the cells chosen by its filter first. Mistakes that
the data set already has count as correct labels, for every ranking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

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
    noise: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of cells that are flipped.")] = NOISE,
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
    found = run(project, work, config, noise, range(first_seed, first_seed + seeds), Terminal())
    header = ("ranking", *(f"seed {seed}" for seed in found["seeds"]), "mean")
    titles = {
        "cells": f"{found['dataset']}: {found['rows']} rows, {found['labels']} labels; AP of finding flipped cells",
        "images": "AP of finding images with a flipped cell",
    }
    show(found, [Table(title, header, _rows(found[key])) for key, title in titles.items()], json)


def _rows(found: Mapping[str, list[float]]) -> list[list[str]]:
    return [[name, *(f"{value:.1f}" for value in values), f"{mean(values):.1f}"] for name, values in found.items()]


def run(
    project: Project,
    work: Path,
    config: AuditConfig,
    noise: float,
    seeds: range,
    reporter: Reporter,
) -> dict[str, Any]:
    """Flip, audit and score, once per seed.

    Returns:
        `cells` and `images`: average precision of each ranking in per cent, a list over seeds.
    """
    there = [name for name in SPLITS if len(project.dataset.splits[name])]
    parts = ensure_inputs_together(project, dict.fromkeys(there, 1), full=False)
    x = torch.cat([collect_features(part) for part in parts]).cpu().numpy()
    clean = np.concatenate([part.labels.numpy() for part in parts])
    make_folder(work)
    cells: dict[str, list[float]] = {}
    images: dict[str, list[float]] = {}
    for seed in seeds:
        flipped = (np.random.default_rng([seed, 1]).random(clean.shape) < noise) & (clean >= 0)
        path = work / f"{project.dataset.name}-{seed}.npz"
        names = np.array(project.dataset.space.names)
        np.savez(path, X=x, Y=np.where(flipped, 1 - clean, clean), label_names=names)
        source = Source(str(path))
        job = Job(work / f"{project.dataset.name}-{seed}")
        own = replace(config, seed=seed, top=0)
        found = audit_dataset(Workspace(work, work / "runs"), source, Machine(), own, job, reporter)
        order = [int(row.removeprefix("row-")) for row in found.evidence.held_out.paths]
        for name, value in _cells(found, flipped[order]).items():
            cells.setdefault(name, []).append(value)
        for name, value in _images(found, flipped[order]).items():
            images.setdefault(name, []).append(value)
    return {
        "dataset": project.dataset.name,
        "rows": len(x),
        "labels": clean.shape[1],
        "noise": noise,
        "seeds": list(seeds),
        "cells": cells,
        "images": images,
    }


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
