"""Exact match of whole label sets: labeldep beside plain rivals from scikit-learn, on the same rows.

All systems have the same features and the same splits. Rivals are trained on train alone; their settings are chosen by
five-fold cross-validation inside train, or on val where label sets are very many (`table.choose`), and never on test.
labeldep's runs have their default flags, and choose on val what they choose. Where a data set has too many label sets
for a rival, it is cut down or left out, and the tables say so.

`planted-coco` is drawn anew for each seed, and its evidence is SIMULATED (`benchmarks/planted`). Of other data sets a
seed is one of training. With `--inside-train` it is a fold of train: each row of train is tested once, and test stays
unseen. Features of images are ready features there, which labeldep standardises.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from benchmarks.rivals.report import Row
    from benchmarks.rivals.rows import Data
    from benchmarks.rivals.table import Rival
    from labeldep_cli.config import Source
    from labeldep_cli.progress import Reporter

LABELS = Path("../shared/data/labels/coco_train2014.npz")
WORK = Path("runs/rivals")
SEEDS = 3


def command(
    datasets: Annotated[
        list[str], typer.Argument(help="As for --dataset; scenes; or planted-coco, drawn and SIMULATED.")
    ],
    backbone: Annotated[str | None, typer.Option(help="Of data sets of your own images.")] = None,
    weights: Annotated[str, typer.Option(help="Of that backbone.")] = "default",
    only: Annotated[str, typer.Option(help="Rivals whose name contains one of these words, comma-separated.")] = "",
    labels: Annotated[
        Path, typer.Option(help="COCO's label sets, for planted-coco: an .npz with Y and names.")
    ] = LABELS,
    data_dir: Annotated[Path, typer.Option(help="Folder of the data sets and caches.")] = Path("data"),
    work: Annotated[Path, typer.Option(help="Folder of runs and drawn data; finished runs there are kept.")] = WORK,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each system.")] = SEEDS,
    inside_train: Annotated[
        bool, typer.Option("--inside-train", help="Test on folds of train, one for each seed.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A few steps: says nothing, but runs all.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Exact match, risk and coverage beside scikit-learn's forests, SVM, neighbours and chains over label sets."""
    from benchmarks.rivals.report import tables
    from benchmarks.show import show
    from labeldep_cli.cli.show import Terminal

    found = run(
        datasets,
        seeds,
        Terminal(),
        backbone=backbone,
        weights=weights,
        only=only,
        labels=labels,
        data_dir=data_dir,
        work=work,
        inside_train=inside_train,
        quick=quick,
    )
    show(found, tables(found), json)


def run(
    datasets: list[str],
    seeds: int = SEEDS,
    reporter: Reporter | None = None,
    *,
    backbone: str | None = None,
    weights: str = "default",
    only: str = "",
    labels: Path = LABELS,
    data_dir: Path = Path("data"),
    work: Path = WORK,
    inside_train: bool = False,
    quick: bool = False,
) -> dict[str, Any]:
    """Run the benchmark; arguments as the flags of `command`.

    Returns:
        `datasets[]`: each a `report.record`, with `left_out[]`, the rivals that it is too large for.

    Raises:
        LabeldepError: a data set cannot be read, no rival has such a name or none is left, the work folder holds other
            runs, or there are fewer than two folds.
    """
    from benchmarks.rivals.rows import source_of
    from benchmarks.rivals.table import RIVALS
    from labeldep_cli.errors import LabeldepError
    from labeldep_cli.progress import SilentReporter

    words = [word.strip() for word in only.split(",") if word.strip()]
    rivals = [rival for rival in RIVALS if not words or any(word in rival.name for word in words)]
    if not rivals:
        names = "; ".join(rival.name for rival in RIVALS)
        raise LabeldepError(f"no rival's name contains {only!r}", f"Name a part of one: {names}")
    if inside_train and seeds < 2:
        raise LabeldepError("one fold of train leaves no rows to train on", "Name two folds or more: --seeds 5")
    found = []
    for name in datasets:
        sources = [source_of(name, backbone, weights, labels, work, seed, quick) for seed in range(seeds)]
        found.append(_dataset(name, sources, rivals, data_dir, work, inside_train, quick, reporter or SilentReporter()))
    return {"benchmark": "rivals", "seeds": seeds, "inside_train": inside_train, "quick": quick, "datasets": found}


def _dataset(
    name: str,
    sources: list[Source],
    rivals: list[Rival],
    data_dir: Path,
    work: Path,
    inside_train: bool,
    quick: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    from benchmarks.rivals.report import record
    from benchmarks.rivals.rows import PLANTED, folds_of, read
    from benchmarks.rivals.systems import train
    from labeldep_cli.config import Workspace
    from labeldep_cli.errors import LabeldepError
    from labeldep_cli.files import make_folder

    file = Path(name)
    short = file.parent.name if file.stem == "labels" else file.stem
    folder = work / short
    make_folder(folder)
    workspace = Workspace(data_dir, folder)
    if inside_train:
        folder = folder / "inside-train"
        sources = folds_of(read(sources[0], workspace, short, reporter), len(sources), folder)
        workspace = Workspace(data_dir, folder)
    drawn = inside_train or name == PLANTED
    data = [read(source, workspace, short, reporter) for source in (sources if drawn else sources[:1])]
    data = data if drawn else data * len(sources)
    left_out = {rival.name: text for rival in rivals if (text := _too_many(rival, data))}
    there = [rival for rival in rivals if rival.name not in left_out]
    if not there:
        raise LabeldepError(f"{name} has too many label sets for {', '.join(left_out)}", "Name other rivals: --only")
    for seed, source in enumerate(sources):
        train(source, workspace, folder / str(seed), seed, quick, reporter)
    rows = [_own(folder / str(seed), data[seed], reporter) for seed in range(len(sources))]
    for rival in there:
        for mine, one in zip(rows, _rival(rival, data, drawn, reporter), strict=True):
            mine.append(one)
    return record(data, rows) | {"simulated": name == PLANTED, "left_out": sorted(left_out.items())}


def _too_many(rival: Rival, data: list[Data]) -> str:
    import numpy as np

    n_sets = max(len(np.unique(one.train.y, axis=0)) for one in data)
    if rival.most_sets is None or n_sets <= rival.most_sets:
        return ""
    return f"left out: {n_sets:,} label sets, more than {rival.most_sets:,}"


def _own(folder: Path, data: Data, reporter: Reporter) -> list[Row]:
    """The rows of labeldep for one seed.

    Raises:
        LabeldepError: a run scores other rows than the rivals.
    """
    from benchmarks.rivals.report import LABELDEP, Row
    from benchmarks.rivals.systems import decide
    from labeldep_cli.errors import LabeldepError

    rows = [Row(LABELDEP, one.system, one.decision, one.val, one.test) for one in decide(folder, reporter)]
    if any(len(row.test.sets) != len(data.test.y) for row in rows):
        raise LabeldepError(f"{folder} scores other rows of test than the rivals", "Name an empty folder: --work")
    return rows


def _rival(rival: Rival, data: list[Data], drawn: bool, reporter: Reporter) -> list[Row]:
    """A rival's rows by seed; one that does not depend on the seed is trained once for each draw of the data."""
    from time import perf_counter

    from benchmarks.rivals.report import RIVAL, Row
    from benchmarks.rivals.table import choose, limits

    setting = choose(rival, data[0])
    words = [f"{key} {value:g}" for key, value in setting.items()]
    note = ", ".join([*words, *filter(None, [limits(rival, data[0])])])
    rows: list[Row] = []
    for seed, one in enumerate(data):
        if rows and not (rival.random or drawn):
            rows.append(rows[0])
            continue
        start = perf_counter()
        test = rival.method(one.train, [one.test.x], setting, seed)[0]
        rows.append(Row(RIVAL, rival.name, "", None, test, note, perf_counter() - start))
    reporter.note(f"{rival.name}: {note or 'no setting'}, {rows[0].seconds:.1f} s")
    return rows
