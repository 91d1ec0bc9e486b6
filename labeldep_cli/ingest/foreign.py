"""What a reader of a foreign form returns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.datasets.rows import Rows


@dataclass(frozen=True)
class Foreign:
    """A foreign source as it was understood.

    Attributes:
        rows: its rows. Paths are absolute, or relative to `root`.
        root: the folder that relative paths start from.
        understood: what was understood, a sentence each, for the user to check.
        images: names and bytes of images that the source has within itself; None if they are files.
    """

    rows: Rows
    root: Path
    understood: tuple[str, ...] = ()
    images: Iterator[tuple[str, bytes]] | None = None
