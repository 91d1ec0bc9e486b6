"""The errors a user can mend. Library code raises them; only the command line catches them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from labeldep_cli.text import visible


class LabeldepError(Exception):
    """An error that the user can mend.

    Args:
        what: one line: what is wrong, and which file, row, flag or run it concerns.
        remedy: how to mend it, often a command; empty if `what` already says it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}" if self.remedy else self.what


class DatasetError(LabeldepError):
    """A data set is missing, malformed, or lists something twice."""


class CacheError(LabeldepError):
    """A feature cache is unreadable, or was made from other inputs than the requested ones."""


class CheckpointError(LabeldepError):
    """A run or its checkpoint is missing, unreadable, or does not fit the data set, backbone or other runs."""


class BackboneError(LabeldepError):
    """A backbone is unknown, or its weights are missing or unsuitable."""


class TrainingError(LabeldepError):
    """Training cannot continue: a loss is not finite, or there are no usable rows."""


class DownloadError(LabeldepError):
    """A download failed: no connection, a refusal by the server, or bytes other than the published ones."""


class StorageError(LabeldepError):
    """A file or folder cannot be written, or is in use by another process."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest known names for a misspelt one.

    Returns:
        "Did you mean 'a' or 'b'?", or "Known: a, b, c" if no known name is similar.
    """
    names = list(dict.fromkeys(known))
    matches = get_close_matches(name, names, n=3, cutoff=0.6)
    if matches:
        return f"Did you mean {' or '.join(repr(match) for match in matches)}?"
    shown = ", ".join(map(visible, names[:20])) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
    return f"Known: {shown}"
