"""The errors a user can mend. Library code raises them; only the command line catches them."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LabeldepError(Exception):
    """An error that the user can mend: what is wrong with which thing, and how to mend it.

    Args:
        what: one line: what is wrong, and with which file, row, flag or run.
        remedy: how to mend it, often a command; empty where `what` already says so.
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
    """A feature cache is unreadable, or was made from something else than what is asked for."""


class CheckpointError(LabeldepError):
    """A run or its checkpoint is missing, unreadable, or does not fit the other parts."""


class BackboneError(LabeldepError):
    """A backbone is unknown, or its weights cannot be had."""


class TrainingError(LabeldepError):
    """Training cannot go on: a loss that is not finite, no usable rows."""


class DownloadError(LabeldepError):
    """Something cannot be fetched: no connection, a refusal, or other bytes than were published."""


class StorageError(LabeldepError):
    """A file or folder cannot be written, or is in use by another process."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names a misspelt one may have meant.

    Returns:
        "Did you mean 'a' or 'b'?", or "Known: a, b, c" where none is near.
    """
    names = list(dict.fromkeys(known))
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(n) for n in near)}?"
    shown = ", ".join(names[:20]) + (f", and {len(names) - 20} more" if len(names) > 20 else "")
    return f"Known: {shown}"
