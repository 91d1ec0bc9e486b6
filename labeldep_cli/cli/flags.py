"""Flags that several commands share and that are no setting of a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from labeldep_cli.cli import complete
from labeldep_cli.cli.commands import refusing
from labeldep_cli.config import read_size as size_of
from labeldep_cli.errors import LabeldepError
from labeldep_cli.files import expand_home

WHERE, WHAT, HOW, OUTPUT, DOWNLOAD = "Where", "What", "How", "Output", "Download"
"""Parts of a command's help, as `Setting.panel` names them."""

SplitName = Literal["train", "val", "test"]

read_size = refusing(size_of)
"""Bytes of "300MB", "8GB", "1.5GiB" or a plain number; what is no size is wrong usage."""

_OF_A_STAGE = ("epochs", "steps", "batch_size", "lr", "patience", "select")
"""Settings that one command's run does not hand on to another command: a head is pretrained at another rate."""


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make a run's settings the defaults of this call; flags that are given go before them."""
    if path is not None:
        try:
            record = json.loads(expand_home(path).read_text(encoding="utf-8"))
            left = () if record["command"] == ctx.info_name else _OF_A_STAGE
            taken = {name: v for name, v in record["settings"].items() if v is not None and name not in left}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LabeldepError(
                f"{path} is no config.json of a run", "Name one: --config runs/RUN/config.json"
            ) from error
        ctx.default_map = {**(ctx.default_map or {}), **taken}
    return path


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
Run = Annotated[
    str | None,
    typer.Argument(
        help="A run: folder, name, stage or part of a name; @newest if not given.", autocompletion=complete.run
    ),
]
RunWeights = Annotated[
    Path | None, typer.Option(help="Where the run's weights lie now, if they were moved.", rich_help_panel=WHAT)
]
RunFolder = Annotated[
    Path | None, typer.Option(help="Folder of the run, in place of RUNS/NAME.", rich_help_panel=WHERE)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Drop what is there and begin anew.", rich_help_panel=HOW)]
FreshRun = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Begin anew: a finished run is kept under a dated name, an unfinished one is removed.",
        rich_help_panel=HOW,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=OUTPUT)]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write TensorBoard's events too, to RUN/tensorboard.", rich_help_panel=OUTPUT),
]
