"""What a shell completes a word to; no module here imports torch, so that an answer comes at once."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import typer

from labeldep_cli.config import TUNED, Workspace
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.runs.layout import BEST, CONFIG


def dataset(incomplete: str) -> list[str]:
    """The named data sets; where none fits, the shell itself completes paths."""
    return _beginning(DATASETS, incomplete)


def backbone(incomplete: str) -> list[str]:
    """The backbones of the table."""
    from labeldep_cli.models.backbones import BACKBONES

    return _beginning(BACKBONES, incomplete)


def threshold(incomplete: str) -> list[str]:
    """The two words."""
    return _beginning(TUNED, incomplete)


def run(ctx: typer.Context, incomplete: str) -> list[str]:
    """The runs with a checkpoint, the newest first."""
    return _runs(ctx, BEST, incomplete)


def any_run(ctx: typer.Context, incomplete: str) -> list[str]:
    """All runs, the newest first."""
    return _runs(ctx, CONFIG, incomplete)


def _runs(ctx: typer.Context, file: str, incomplete: str) -> list[str]:
    runs_dir = Path(ctx.params.get("runs_dir") or os.environ.get("LABELDEP_RUNS") or Workspace.runs_dir)
    found = [path for pattern in ("*", "*/*") for path in runs_dir.glob(f"{pattern}/{file}")]
    newest = sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    return _beginning((path.parent.relative_to(runs_dir).as_posix() for path in newest), incomplete)


def _beginning(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
