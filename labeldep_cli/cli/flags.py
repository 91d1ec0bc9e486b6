"""Flags that several commands share and that are not settings of a config."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from labeldep_cli.cli import complete
from labeldep_cli.cli.commands import refusing
from labeldep_cli.config import read_size as size_of
from labeldep_cli.errors import LabeldepError
from labeldep_cli.files import expand_home
from labeldep_cli.runs.record import settings_in

WHERE, WHAT, HOW, OUTPUT, DOWNLOAD = "Where", "What", "How", "Output", "Download"
"""Sections of a command's help, named by `Setting.panel`."""

SplitName = Literal["train", "val", "test"]

read_size = refusing(size_of)
"""Bytes of "300MB", "8GB", "1.5GiB" or a plain number; other text is wrong usage."""

_OF_A_STAGE = ("epochs", "steps", "batch_size", "lr", "patience", "select")
"""Settings that --config does not copy from another command's run: pretraining, for example, has another rate."""


def _read_config(ctx: typer.Context, path: Path | None) -> Path | None:
    """Make a run's settings the defaults of this call; flags on the command line override them."""
    if path is not None:
        try:
            command, settings = settings_in(expand_home(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LabeldepError(
                f"{path} is not the config.json of a run: {error}", "Name one: --config runs/RUN/config.json"
            ) from error
        left_out = () if command == ctx.info_name else _OF_A_STAGE
        copied = {name: v for name, v in settings.items() if v is not None and name not in left_out}
        ctx.default_map = {**(ctx.default_map or {}), **copied}
    return path


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=_read_config,
        is_eager=True,
        help="File config.json of a run, whose settings become the defaults.",
        rich_help_panel=WHAT,
    ),
]
Run = Annotated[
    str | None,
    typer.Argument(
        help="Run: folder, name, stage or part of a name; @newest if not given.", autocompletion=complete.run
    ),
]
RunWeights = Annotated[
    Path | None, typer.Option(help="File of the run's backbone weights, if it has moved.", rich_help_panel=WHAT)
]
RunFolder = Annotated[
    Path | None, typer.Option(help="Folder of the run, in place of RUNS/NAME.", rich_help_panel=WHERE)
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Discard existing results and start again.", rich_help_panel=HOW)]
FreshRun = Annotated[
    bool,
    typer.Option(
        "--fresh",
        help="Start again: a finished run is kept under a dated name, an unfinished one is removed.",
        rich_help_panel=HOW,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="clean: remove without asking; without this flag, a script only prints the list.",
        rich_help_panel=HOW,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", rich_help_panel=OUTPUT)]
TensorBoard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write TensorBoard events to RUN/tensorboard.", rich_help_panel=OUTPUT),
]
