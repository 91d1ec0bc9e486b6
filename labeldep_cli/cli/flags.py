"""Flags that several commands share, each written once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from labeldep_cli.cli import complete
from labeldep_cli.config import (
    DEFAULT_BACKBONE,
    DEFAULT_HEAD,
    PAPER_BACKBONES,
    TUNED,
    AdversarialConfig,
    Decided,
    HeadKind,
    LabelReduction,
    Loss,
    PretrainConfig,
    Selection,
)
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.errors import LabeldepError

WHERE, WHAT, HOW, PAPER, OUTPUT = "Where", "What", "How", "The paper's own", "Output"


SplitName = Literal["train", "val", "test"]
Views = Literal["1", "21"]


_OF_A_STAGE = ("epochs", "steps", "batch_size", "lr", "patience", "select")
"""Settings that one command's run does not hand on to another command: a head is pretrained at another rate."""


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make a run's settings the defaults of this call; flags that are given go before them."""
    if path is not None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            left = () if record["command"] == ctx.info_name else _OF_A_STAGE
            taken = {name: v for name, v in record["settings"].items() if v is not None and name not in left}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabeldepError(
                f"{path} is no config.json of a run", "Name one: --config runs/RUN/config.json"
            ) from error
        ctx.default_map = {**(ctx.default_map or {}), **taken}
    return path


def _by_stage(name: str) -> str:
    """The defaults of a setting that depends on stage and mode, in words."""
    stages = (PretrainConfig, AdversarialConfig)
    told = [f"{stage.STAGE} {stage.HEAD[name]:g}, with --full {stage.FULL[name]:g}" for stage in stages]
    return "; ".join(told)


_LENGTHS = "; ".join(
    f"{stage.STAGE} {stage.HEAD_LENGTH[0]} (and {stage.HEAD_LENGTH[1]} updates at least), "
    f"with --full {stage.FULL_LENGTH[0]} (and {stage.FULL_LENGTH[1]})"
    for stage in (PretrainConfig, AdversarialConfig)
)
_LENGTHS += f"; a frozen G's nce critic {AdversarialConfig.NCE_HEAD_LENGTH[1]} updates at least"

DataDir = Annotated[
    Path, typer.Option(envvar="LABELDEP_DATA", help="Folder of the data sets and caches.", rich_help_panel=WHERE)
]
MovedData = Annotated[
    Path | None, typer.Option(help="Where coco, nuswide or scenes lie now, if they were moved.", rich_help_panel=WHERE)
]
RunsDir = Annotated[Path, typer.Option(envvar="LABELDEP_RUNS", help="Folder of the runs.", rich_help_panel=WHERE)]
FeaturesDir = Annotated[
    Path | None,
    typer.Option(envvar="LABELDEP_FEATURES", help="Folder of the caches, if not DATA/features.", rich_help_panel=WHERE),
]
Run = Annotated[
    str | None,
    typer.Argument(help="A run's folder or name; the newest if not given.", autocompletion=complete.run),
]
Dataset = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(DATASETS)}; or a path: CSV, JSONL, COCO JSON, folder with labels.csv, "
        "WebDataset shards ('x-{000..099}.tar'), .npz/.h5 of features.",
        autocompletion=complete.dataset,
        rich_help_panel=WHAT,
    ),
]
BackboneName = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(PAPER_BACKBONES)}, or any torchvision classifier (default: {DEFAULT_BACKBONE}).",
        autocompletion=complete.backbone,
        rich_help_panel=WHAT,
    ),
]
WeightsSpec = Annotated[
    str,
    typer.Option(
        help="default: torchvision's (downloaded if missing); none: random; or the PATH of a state dict.",
        rich_help_panel=WHAT,
    ),
]
RunWeights = Annotated[
    Path | None, typer.Option(help="Where the run's weights lie now, if they were moved.", rich_help_panel=WHAT)
]
ValFraction = Annotated[
    float,
    typer.Option(
        min=0.0, max=0.9, help="Share of train held out where the data set has no val split.", rich_help_panel=WHAT
    ),
]
TestFraction = Annotated[
    float,
    typer.Option(min=0.0, max=0.9, help="Share held out where the data set has no test split.", rich_help_panel=WHAT),
]
SplitSeed = Annotated[int, typer.Option(help="Seed of those draws.", rich_help_panel=WHAT)]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read_config,
        is_eager=True,
        help="Take the settings of a run's config.json.",
        rich_help_panel=WHAT,
    ),
]

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.", rich_help_panel=HOW)]
Workers = Annotated[
    int | None, typer.Option(min=0, help="Processes that decode images; one a core, at most 8.", rich_help_panel=HOW)
]
MaxSkipped = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, help="Share of unreadable images above which the command stops.", rich_help_panel=HOW
    ),
]
_UNITS = {"": 1, "B": 1} | {f"{unit}B": 1000 ** (k + 1) for k, unit in enumerate("KMGT")}
_UNITS |= {f"{unit}IB": 1024 ** (k + 1) for k, unit in enumerate("KMGT")}


def read_size(text: str | int) -> int:
    """Bytes of "300MB", "8GB", "1.5GiB" or a plain number.

    Raises:
        typer.BadParameter: it is no size, or not even one byte.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([A-Z]*)", str(text).strip().upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no size; name one like 300MB, 8GB or 1.5GiB")
    return size


def read_threshold(text: str) -> str:
    """A threshold as `DecisionConfig` takes it: "tuned", "tuned-per-label" or a probability.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text not in TUNED:
        try:
            inside = 0 <= float(text) <= 1
        except ValueError:
            inside = False
        if not inside:
            raise typer.BadParameter(f"{text!r}: name a probability between 0 and 1, tuned or tuned-per-label")
    return text


MaxMemory = Annotated[
    int | None,
    typer.Option(
        parser=read_size,
        metavar="SIZE",
        help="For cached features, in RAM or on the GPU: 300MB, 8GB; larger ones are streamed. No limit if not given.",
        rich_help_panel=HOW,
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Drop what is there and begin anew.", rich_help_panel=HOW)]
Full = Annotated[
    bool, typer.Option("--full", help="Fine-tune the whole backbone on augmented images.", rich_help_panel=HOW)
]
TrainViews = Annotated[
    int | None, typer.Option(min=1, max=21, help="Views to draw from; all that there are.", rich_help_panel=HOW)
]
Epochs = Annotated[
    int | None, typer.Option(min=1, help=f"Passes over the training rows; {_LENGTHS}.", rich_help_panel=HOW)
]
Steps = Annotated[int | None, typer.Option(min=1, help="Generator updates, instead of epochs.", rich_help_panel=HOW)]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help=f"Rows a batch; {_by_stage('batch_size')}.", rich_help_panel=HOW)
]
LearningRate = Annotated[
    float | None,
    typer.Option(min=0.0, max=1000.0, help=f"Adam's, for the generator; {_by_stage('lr')}.", rich_help_panel=HOW),
]
LossName = Annotated[
    Loss,
    typer.Option(
        help="The generator's: the paper's, a stronger one of today, or Table 1's ranking.", rich_help_panel=HOW
    ),
]
HeadName = Annotated[
    HeadKind | None,
    typer.Option(
        help=f"The paper's own ({DEFAULT_HEAD}), a rival of Table 1 (cnn-rnn, att-rnn, rlsd) or one of today.",
        rich_help_panel=HOW,
    ),
]
Hidden = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Width of one hidden layer in the linear head, 0: none; of the other heads' layers, 0: their own.",
        rich_help_panel=HOW,
    ),
]
LabelReductionName = Annotated[
    LabelReduction,
    typer.Option(help="Eq. 1 averaged or summed over labels; summed, alpha mutes the critic.", rich_help_panel=PAPER),
]
MaxGradientNorm = Annotated[
    float,
    typer.Option(min=0.0, help="Longer gradients are scaled down to this norm; 0: never.", rich_help_panel=HOW),
]
Select = Annotated[
    Selection | None,
    typer.Option(
        help="The evaluation to keep: the last, or the best on val by a score; "
        f"pretrain {PretrainConfig.SELECT}, adversarial {AdversarialConfig.SELECT} (with --patience mAP).",
        rich_help_panel=HOW,
    ),
]
Patience = Annotated[
    int,
    typer.Option(
        min=0, help="Stop after this many evaluations without a better one on val; 0: never.", rich_help_panel=HOW
    ),
]
TrainBn = Annotated[
    bool, typer.Option("--train-bn", help="With --full, update batch norms' running statistics.", rich_help_panel=HOW)
]
Accumulate = Annotated[
    int, typer.Option(min=1, help="Parts a batch passes G in: less memory, the same step.", rich_help_panel=HOW)
]
CheckpointActivations = Annotated[
    bool,
    typer.Option(
        "--checkpoint-activations",
        help="With --full, compute G's activations again instead of keeping them: less memory, more time.",
        rich_help_panel=HOW,
    ),
]
BELOW_ONE = 0.999999
"""Adam takes no beta of 1."""

Beta = Annotated[float, typer.Option(min=0.0, max=BELOW_ONE, help="Adam's, for the generator.", rich_help_panel=HOW)]
Seed = Annotated[
    int,
    typer.Option(min=0, max=2**63 - 1, help="Of weights, order and noise; never of the splits.", rich_help_panel=HOW),
]

Decision = Annotated[
    Decided,
    typer.Option(
        "--decision",
        help="With a run's critic D, by p(y|x) exp(beta D(y, x)): rerank, the most probable label set; "
        "expected-f1, the one with the best expected F1.",
        rich_help_panel=HOW,
    ),
]
CriticWeight = Annotated[
    float | None,
    typer.Option(min=0.0, help="The critic's weight beta; the one chosen on val if not given.", rich_help_panel=HOW),
]
Threshold = Annotated[
    str | None,
    typer.Option(
        parser=read_threshold,
        metavar="T",
        autocompletion=complete.threshold,
        help="A probability, or tuned or tuned-per-label (found on val, kept in the checkpoint). 0.5 if not given.",
        rich_help_panel=HOW,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(min=1, help="The k most probable labels; with --threshold, of those above it.", rich_help_panel=HOW),
]
NonEmpty = Annotated[
    bool, typer.Option("--non-empty", help="An empty set becomes its most probable label.", rich_help_panel=HOW)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=OUTPUT)]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write TensorBoard's events too, to RUN/tensorboard.", rich_help_panel=OUTPUT),
]
