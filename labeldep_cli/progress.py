"""How the rooms below the command line tell what they are doing, without printing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, n: int = 1) -> None:
        """Say that n more units are done."""


class Reporter(Protocol):
    """Takes notes and progress; the command line shows them on stderr."""

    def note(self, text: str) -> None:
        """Say one sentence to the user."""

    def bar(self, what: str, total: int, unit: str) -> AbstractContextManager[Bar]:
        """Open a progress bar over `total` units ("images", "steps")."""


class _Still:
    def advance(self, n: int = 1) -> None:
        pass


class Silent:
    """A reporter that says nothing: the default of the Python API."""

    def note(self, text: str) -> None:
        """Drop the note."""

    @contextmanager
    def bar(self, what: str, total: int, unit: str) -> Iterator[Bar]:
        """Yield a bar that shows nothing."""
        yield _Still()
