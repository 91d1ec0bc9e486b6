"""Plain against stratified draws of val and test: which labels they lack, how alike they are, how much scores vary.

A data set's own splits are dropped, and splits are drawn with SEEDS seeds, as the command line draws them. Where there
are features, a head is trained on each draw (`pretrain` with its default flags), and its test mAP is taken. The last
part measures the price: the share of rows that change sides when 1 or 10 per cent of rows are added.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks.show import Table, show
from labeldep_cli.cli.show import Terminal
from labeldep_cli.config import DecisionConfig, Machine, PretrainConfig, RunWorkspace, Source, Workspace
from labeldep_cli.datasets.draw import Draw, complete
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import SPLITS, Split
from labeldep_cli.evaluation.evaluate import collect_features
from labeldep_cli.experiments.train import pretrain
from labeldep_cli.files import make_folder
from labeldep_cli.pipelines.evaluate import evaluate_run
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.open import open_project
from labeldep_cli.runs.claims import Job

SEEDS = 20
WORK = Path("runs/splits-benchmark")
ADDED = (0.01, 0.1)
DRAWS = {"plain": False, "stratified": True}


def command(
    datasets: Annotated[list[str] | None, typer.Argument(help="As for --dataset; a head is trained on each.")] = None,
    labels: Annotated[
        list[Path] | None, typer.Option(help="File of label sets alone: an .npz with Y [N, L]; may be repeated.")
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Of data sets of images.")] = None,
    weights: Annotated[str, typer.Option(help="Of the backbone.")] = "default",
    data_dir: Annotated[Path, typer.Option(help="Folder of the data sets and caches.")] = Path("data"),
    work: Annotated[Path, typer.Option(help="Folder of features without splits, and of runs.")] = WORK,
    seeds: Annotated[int, typer.Option(min=2, help="Draws of the splits.")] = SEEDS,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Labels that drawn splits lack, their shares, the spread of test mAP: plain against stratified."""
    make_folder(work)
    found = {}
    for path in labels or ():
        found[path.stem] = measure(_label_sets(path), None, work, range(seeds))
    for name in datasets or ():
        ready = Path(name).suffix.lower() in (".npz", ".h5")
        source = Source(name) if ready else Source(name, backbone, weights)
        table = _without_splits(source, data_dir, work)
        found[table.stem] = measure(_label_sets(table), table, work, range(seeds))
    show({"seeds": seeds, "datasets": found}, _tables(found), json)


def _label_sets(path: Path) -> NDArray[np.int8]:
    with np.load(path) as archive:
        y: NDArray[np.int8] = archive["Y"]
    return y[(y == 1).any(axis=1)] if len(y) > 200_000 else y  # NUS-WIDE: images without a concept are not used


def _without_splits(source: Source, data_dir: Path, work: Path) -> Path:
    """A file of ready features with all rows of a data set, without its splits."""
    project = open_project(Workspace(data_dir), source, Machine(), Terminal())
    there = [name for name in SPLITS if len(project.dataset.splits[name])]
    parts = ensure_inputs_together(project, dict.fromkeys(there, 1), full=False)
    path = work / f"{project.dataset.name.rsplit('-', 1)[0]}.npz"
    x = torch.cat([collect_features(part) for part in parts]).cpu().numpy()
    y = np.concatenate([part.labels.numpy() for part in parts])
    np.savez(path, X=x, Y=y, label_names=np.array(project.dataset.space.names))
    return path


def measure(labels: NDArray[np.int8], table: Path | None, work: Path, seeds: range) -> dict[str, Any]:
    """Draw splits, plain and stratified, and measure them.

    Args:
        labels: int8 [N, L].
        table: ready features of the same rows, to train a head on; None for none.
        work: folder of the runs.
        seeds: of the draws.

    Returns:
        For each kind of draw a list over seeds of each quantity.
    """
    found: dict[str, Any] = {"rows": len(labels), "labels": labels.shape[1]}
    for name, stratified in DRAWS.items():
        draws = [_quantities(labels, seed, stratified) for seed in seeds]
        found[name] = {key: [draw[key] for draw in draws] for key in draws[0]}
        found[name] |= {f"moved {added:.0%}": _moved(labels, added, stratified, seeds[:5]) for added in ADDED}
        if table is not None:
            found[name]["test mAP"] = [_score(table, seed, stratified, work) for seed in seeds]
    return found


def _drawn(labels: NDArray[np.int8], rows: NDArray[np.int64], seed: int, stratified: bool) -> dict[str, Split]:
    """The splits that the command line draws of some rows; names are those of ready features."""
    space = LabelSpace(tuple(map(str, range(labels.shape[1]))))
    names = tuple(f"row-{row}" for row in rows)
    draw = Draw(Source.val_fraction, Source.test_fraction, seed, stratified)
    return complete({"train": Split("train", names, labels[rows], space, Path())}, draw)[0]


def _quantities(labels: NDArray[np.int8], seed: int, stratified: bool) -> dict[str, float]:
    splits = _drawn(labels, np.arange(len(labels)), seed, stratified)
    share = (labels == 1).mean(axis=0)
    occurs = share > 0
    found: dict[str, float] = {}
    for name, split in splits.items():
        present = split.labels == 1
        found[f"{name}: labels without a positive"] = int((occurs & ~present.any(axis=0)).sum())
        found[f"{name}: share of rows"] = len(split) / len(labels)
        distance = np.abs(present.mean(axis=0) - share)[occurs] / share[occurs]
        found[f"{name}: distance of label shares"] = float(distance.mean())
    return found


def _moved(labels: NDArray[np.int8], added: float, stratified: bool, seeds: range) -> list[float]:
    """The share of old rows that are in another split after rows were added, by seed."""
    moved = []
    for seed in seeds:
        is_old = np.random.default_rng([seed, 1]).random(len(labels)) >= added / (1 + added)
        before, after = (
            {path: name for name, split in _drawn(labels, rows, seed, stratified).items() for path in split.paths}
            for rows in (np.flatnonzero(is_old), np.arange(len(labels)))
        )
        moved.append(mean(after[path] != name for path, name in before.items()))
    return moved


def _score(table: Path, seed: int, stratified: bool, work: Path) -> float:
    """The test mAP, in per cent, of a head that is trained on one draw of ready features."""
    workspace = Workspace(work, work / "runs")
    source = Source(str(table), split_seed=seed, stratify=stratified)
    folder = workspace.runs_dir / f"{table.stem}-{'stratified' if stratified else 'plain'}-{seed}"
    pretrain(workspace, source, Machine("cpu"), PretrainConfig(), Job(folder), SilentReporter())
    scored = RunWorkspace(workspace.runs_dir)
    found = evaluate_run(scored, str(folder), Machine("cpu"), DecisionConfig(), "test", None, SilentReporter())
    return float(found.scores.mAP)


def _tables(found: dict[str, Any]) -> Iterator[Table]:
    for name, measured in found.items():
        rows = []
        for quantity in measured["stratified"]:
            values = [measured[draw][quantity] for draw in DRAWS]
            rows.append([quantity, *(f"{mean(value):.4g} (sd {stdev(value):.2g})" for value in values)])
        yield Table(f"{name}: {measured['rows']} rows, {measured['labels']} labels", ("", *DRAWS), rows)
