"""Shell completion of words. No module here imports torch, so completion is fast."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import typer

from labeldep_cli.config import TUNED, Workspace
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.files import expand_home
from labeldep_cli.ingest.forms import FORMS
from labeldep_cli.runs.listing import STAGES
from labeldep_cli.runs.names import NEWEST, KnownRun, known_runs

_BARE = re.compile(r"[\w@:./][\w@%+=:,./-]*")
"""Words that mean the same in every shell without quotes. Others are not offered: zsh would evaluate them."""


def dataset(incomplete: str) -> list[str]:
    """The named data sets. If none fits, the shell itself completes paths."""
    return _beginning(DATASETS, incomplete)


def form(incomplete: str) -> list[str]:
    """The forms that `import` reads."""
    return _beginning(FORMS, incomplete)


def backbone(incomplete: str) -> list[str]:
    """The names of the table of backbones, and recommended ones of timm."""
    from labeldep_cli.models.backbones import BACKBONES
    from labeldep_cli.models.timm_models import RECOMMENDED

    return _beginning((*BACKBONES, *RECOMMENDED), incomplete)


def threshold(incomplete: str) -> list[str]:
    """The words for thresholds tuned on val."""
    return _beginning(TUNED, incomplete)


def run(ctx: typer.Context, incomplete: str) -> list[str]:
    """The runs with a checkpoint, newest first; then their stages, and the word for the newest run."""
    runs = [run for run in _runs(ctx) if run.usable]
    stages = [stage for stage in STAGES if any(run.stage == stage for run in runs)]
    return _beginning([*(run.name for run in runs), *stages, *([NEWEST] if runs else [])], incomplete)


def any_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """All runs, newest first."""
    return _beginning((run.name for run in _runs(ctx)), incomplete)


def _runs(ctx: typer.Context) -> list[KnownRun]:
    runs_dir = ctx.params.get("runs_dir") or os.environ.get("LABELDEP_RUNS") or Workspace.runs_dir
    return known_runs(expand_home(Path(runs_dir)))


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete) and _BARE.fullmatch(word)]
