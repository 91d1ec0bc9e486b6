"""Scored networks as the tables' JSON records: means over seeds, and differences under every decision rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.evaluation.bootstrap import LEVEL, METRICS, RESAMPLES, SeededInterval, seeded_interval
from labeldep_cli.experiments.scores import Evaluation
from labeldep_cli.reports import paper
from labeldep_cli.reproduction.matrix import ABLATIONS, BASELINE, CONTROL, CRITIC, WGAN, Matrix, Model, Row, Training
from labeldep_cli.reproduction.scored import EQUAL, HALF, NON_EMPTY, RERANK, RESAMPLING_SEED, TUNED, Scored

SCORES = (*paper.COLUMNS, "mAP", "exact_match", "labels_per_image")
"""The columns of a table: the paper's six, and three more."""

Results = Mapping[str, Sequence[Scored]]
"""Scored networks by their training's key, one per seed."""


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) over seeds.

    Returns:
        mean, spread (None if there is only one seed), by_seed.
    """
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "spread": spread, "by_seed": list(values)}


def table(number: int, matrix: Matrix, results: Results, out: Path, beside_paper: bool) -> dict[str, Any]:
    """The record of one table, as in table1.json.

    Args:
        number: 1, 2 or 3.
        matrix: the rows of all tables.
        results: all networks that they need.
        out: the folder of the runs; the runs' folders are recorded relative to it.
        beside_paper: whether data set and backbone are the paper's, so that the paper's numbers are shown.
    """
    rows = matrix.tables[number]
    first = results[rows[0].training.key]
    test = first[0].own
    keys = ("ids_sha256", "labels_sha256", "split_seed", "ap", "full", "versions")
    return {
        "table": number,
        "dataset": test.dataset,
        "split": test.split,
        "n_images": test.scores.n_images,
        "n_labels": test.scores.n_labels,
        "true_labels_per_image": test.scores.true_labels_per_image,
        "seeds": [s.seed for s in first],
        "columns": list(SCORES),
        "rows": [_row(number, row, results[row.training.key], out, beside_paper) for row in rows],
        "level": LEVEL,
        "resamples": RESAMPLES,
        "gain": _gains(number, matrix, results),
        "left_out": [{"row": title, "reason": reason} for title, reason in matrix.left_out.items()] * (number != 3),
        "protocol": {name: test.provenance[name] for name in keys},
    }


def _row(number: int, row: Row, scored: Sequence[Scored], out: Path, beside_paper: bool) -> dict[str, Any]:
    tuned = [s.tuned for s in scored if s.tuned is not None]
    return {
        "row": row.title,
        "backbone": row.training.model.backbone,
        "stage": row.training.stage,
        "decision": scored[0].own.rule.to_json(),
        "scores": _scores(s.own for s in scored),
        "tuned": _scores(tuned),
        "paper": (paper.numbers(number, row.paper) or None) if beside_paper else None,
        "runs": [_run(s, out) for s in scored],
    }


def _scores(evaluations: Iterable[Evaluation]) -> dict[str, Any]:
    scores = [evaluation.scores for evaluation in evaluations]
    return {name: over_seeds([float(getattr(s, name)) for s in scores]) for name in SCORES}


def _run(scored: Scored, out: Path) -> dict[str, Any]:
    names = ("step", "checkpoint_sha256", "weights_sha256", "transform")
    facts = {name: scored.own.provenance[name] for name in names}
    return {"run": scored.folder.relative_to(out).as_posix(), "seed": scored.seed, **facts}


def _gains(number: int, matrix: Matrix, results: Results) -> list[dict[str, Any]]:
    """Differences under each rule: critic minus control, control minus baseline, critic at test time minus baseline."""
    gains: list[dict[str, Any]] = []
    models = matrix.models[:1] if number == 3 else matrix.models
    for model in models:
        for stage in (stage for stage in (ABLATIONS if number == 3 else (WGAN,)) if stage not in (BASELINE, CONTROL)):
            gains += _training_gain(model, stage, CONTROL, results)
        gains += _training_gain(model, CONTROL, BASELINE, results)
        if Training(model, CRITIC).key in results:
            gains += _test_time_gain(model, results)
    return gains


def _training_gain(model: Model, stage: str, beside: str, results: Results) -> list[dict[str, Any]]:
    mine, theirs = (results[Training(model, name).key] for name in (stage, beside))
    ranking = _interval([s.ranking for s in mine], [s.ranking for s in theirs])
    return [
        _gain(model, stage, beside, (rule, rule), mine, theirs) | {"mAP": ranking.to_json()}
        for rule in (HALF, TUNED, EQUAL)
    ]


def _test_time_gain(model: Model, results: Results) -> list[dict[str, Any]]:
    mine, theirs = (results[Training(model, name).key] for name in (CRITIC, BASELINE))
    return [
        _gain(model, CRITIC, BASELINE, (RERANK, rule), mine, theirs) | {"mAP": None}
        for rule in (HALF, TUNED, NON_EMPTY)
    ]


def _gain(
    model: Model,
    stage: str,
    beside: str,
    rules: tuple[str, str],
    mine: Sequence[Scored],
    theirs: Sequence[Scored],
) -> dict[str, Any]:
    """One difference: a stage's sets under the first rule minus another stage's sets under the second rule."""
    sets = {
        metric: _interval(
            [s.resampled[rules[0]][metric] for s in mine], [s.resampled[rules[1]][metric] for s in theirs]
        ).to_json()
        for metric in METRICS
    }
    title = f"{Training(model, stage).title} minus {beside}"
    return {"gain": title, "stage": stage, "beside": beside, "decision": rules[0], "beside_decision": rules[1], **sets}


def _interval(mine: Sequence[Any], theirs: Sequence[Any]) -> SeededInterval:
    return seeded_interval(np.stack(mine), np.stack(theirs), RESAMPLING_SEED)
