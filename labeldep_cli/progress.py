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

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open a progress bar over `total` units ("images", "steps"); None where nobody knows how many will come."""


class _Still:
    def advance(self, n: int = 1) -> None:
        pass


class Silent:
    """A reporter that says nothing: the default of the Python API."""

    def note(self, text: str) -> None:
        """Drop the note."""

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Yield a bar that shows nothing."""
        yield _Still()


class Once:
    """Passes each note on once: a command that opens the same data set many times says so but once."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """Pass a note on, if it is new."""
        if text not in self._said:
            self._said.add(text)
            self._reporter.note(text)

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open the bar there."""
        return self._reporter.bar(what, total, unit)
