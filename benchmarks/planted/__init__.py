"""A benchmark with a known answer: how much of the true posterior's gain over independent sigmoids is reached?

Label sets for train, val and test are drawn with replacement from those of COCO train2014. A label's image evidence is
SIMULATED (`law.py`), with known strength, so that p(y|x) is known exactly. Small Ising models with known couplings are
used too, and both also with every label column shuffled, so that no dependency is left to gain from.

Every run is made by the package's own pipelines over ready features, as `labeldep pretrain`, `labeldep adversarial`
and `labeldep eval` would. A row's fraction is (row - baseline) / (true posterior - baseline) in exact match. The
baseline is the pretrained sigmoids at p > 0.5; the true posterior decides on argmax over y of p(y|x). The interval
comes from a paired bootstrap over images, averaged over seeds. "True marginals" are p(y_l|x) themselves: no decision
that takes each label separately can know more.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

if TYPE_CHECKING:
    from benchmarks.planted.cases import CaseName, Sizes
    from benchmarks.planted.rows import Scale
    from labeldep_cli.progress import Reporter

LABELS = Path("../shared/data/labels/coco_train2014.npz")
WORK = Path("runs/planted")
ROWS = 40_000
HIDDEN = 512
SEEDS = 3
PRETRAIN_EPOCHS, FROZEN_STEPS = 15, 3000


def command(
    labels: Annotated[Path, typer.Option(help="COCO train2014's label sets: an .npz with Y and names.")] = LABELS,
    work: Annotated[Path, typer.Option(help="Folder of data sets and runs; finished runs there are kept.")] = WORK,
    cases: Annotated[str, typer.Option(help="Comma-separated; all of them by default.")] = "",
    rows: Annotated[int, typer.Option(min=100, help="Training rows.")] = ROWS,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the data, each with a training of its own.")] = SEEDS,
    joint_steps: Annotated[
        int | None, typer.Option(min=1, help="Generator updates beside a critic, and of the control; or their default.")
    ] = None,
    critic_layers: Annotated[
        int | None, typer.Option(min=1, help="Of every critic; 8 in training, 2 against a frozen generator.")
    ] = None,
    critic_width: Annotated[int | None, typer.Option(min=2, help="Of these; 512 and 256.")] = None,
    only: Annotated[str, typer.Option("--systems", help="Comma-separated, beside the baseline; all by default.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Few rows and steps: says nothing, but runs all.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """A known answer: simulated evidence, so that every system can be compared with the true posterior."""
    from benchmarks.planted.report import tables
    from benchmarks.show import show
    from labeldep_cli.cli.show import Terminal

    names = tuple(name for name in cases.split(",") if name)
    found = run(
        labels,
        work,
        names,
        seeds,
        quick,
        Terminal(),
        rows=rows,
        joint_steps=joint_steps,
        critic_layers=critic_layers,
        critic_width=critic_width,
        only=tuple(name for name in only.split(",") if name),
    )
    show(found, tables(found), json)


def run(
    labels: Path = LABELS,
    work: Path = WORK,
    cases: tuple[str, ...] = (),
    seeds: int = SEEDS,
    quick: bool = False,
    reporter: Reporter | None = None,
    *,
    rows: int = ROWS,
    joint_steps: int | None = None,
    critic_layers: int | None = None,
    critic_width: int | None = None,
    only: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Run the benchmark; arguments as the flags of `command`.

    Returns:
        `cases[]`: each with its `rows[]` (scores.summary) and `beside_control[]` (scores.beside); all of it SIMULATED.

    Raises:
        LabeldepError: an unknown case or system, no label file, or a work folder that holds runs of other settings.
    """
    from benchmarks.planted.cases import CaseName, Sizes
    from benchmarks.planted.rows import Scale
    from labeldep_cli.errors import LabeldepError
    from labeldep_cli.progress import SilentReporter

    known: tuple[CaseName, ...] = get_args(CaseName)
    unknown = set(cases) - set(known)
    if unknown:
        raise LabeldepError(f"there is no case {sorted(unknown)[0]!r}", f"Name some of: {', '.join(known)}")
    sizes = Sizes(400, 100, 200) if quick else Sizes(train=rows)
    scale = (
        Scale(2, 16, 4, 8, 1, 16)
        if quick
        else Scale(PRETRAIN_EPOCHS, HIDDEN, joint_steps, FROZEN_STEPS, critic_layers, critic_width)
    )
    chosen = [name for name in known if not cases or name in cases]
    return {
        "benchmark": "planted",
        "simulated": "image evidence is simulated; label sets of coco are real, those of ising are drawn from a model",
        "sizes": vars(sizes),
        "scale": vars(scale),
        "seeds": seeds,
        "cases": [
            _case(name, labels, work, sizes, scale, only, seeds, reporter or SilentReporter()) for name in chosen
        ],
    }


def _case(
    name: CaseName,
    labels: Path,
    work: Path,
    sizes: Sizes,
    scale: Scale,
    only: tuple[str, ...],
    seeds: int,
    reporter: Reporter,
) -> dict[str, Any]:
    from benchmarks.planted.report import case_rows
    from benchmarks.planted.rows import CONTROL, IN_TRAINING, systems
    from benchmarks.planted.score import beside, summary

    per_seed = [
        case_rows(name, labels, work, sizes, systems(scale, only), scale, seed, reporter) for seed in range(seeds)
    ]
    return {
        "case": name,
        "rows": summary(per_seed, baseline=0, best=len(per_seed[0]) - 1, dependent="shuffled" not in name),
        "beside_control": beside(per_seed, CONTROL, IN_TRAINING),
    }
