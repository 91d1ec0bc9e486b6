"""FORMS: the table of foreign forms that `labeldep import` reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeldep_cli.config.importing import ImportConfig

if TYPE_CHECKING:
    from labeldep_cli.ingest.foreign import Foreign


@dataclass(frozen=True)
class Form:
    """A foreign form.

    Attributes:
        title: its name in messages.
        recognises: whether a file or folder has this form, by its content. It reads as little as it can.
        read: reads a file or folder; raises `DatasetError`, which names the place, the problem and, where a flag
            answers it, the command with that flag.
    """

    title: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, ImportConfig], Foreign]


FORMS: Mapping[str, Form] = {}
"""Forms by the name for --format. The first that recognises a source reads it."""
