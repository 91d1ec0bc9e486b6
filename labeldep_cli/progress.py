"""How the rooms below the command line tell what they are doing, without printing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, n: int = 1) -> None:
        """Say that n more units are done."""


@dataclass(frozen=True)
class TrainingProgress:
    """A training as it begins or goes on.

    Attributes:
        name: of the run.
        steps: generator updates in all.
        history: the evaluations so far, records of metrics.jsonl; empty before the first.
        best: the step of the best of them; None before there is one.
        resumed: the step that it goes on from; None for that of the last evaluation.
    """

    name: str
    steps: int
    history: tuple[Mapping[str, Any], ...] = ()
    best: int | None = None
    resumed: int | None = None

    @property
    def done(self) -> int:
        """Updates made already."""
        if self.resumed is not None:
            return self.resumed
        return int(self.history[-1]["step"]) if self.history else 0


class TrainingObserver(Bar, Protocol):
    """Who looks on while a network is trained; `advance` tells of each update."""

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Hear the means of the losses over the updates since the last telling; `step` is the last of them."""

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Hear of an evaluation: its record of metrics.jsonl, and whether it is the best so far."""


class Reporter(Protocol):
    """Takes notes and progress; the command line shows them on stderr."""

    def note(self, text: str) -> None:
        """Say one sentence to the user."""

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open a progress bar over `total` units ("images", "shards"); None where nobody knows how many will come."""

    def training(self, training: TrainingProgress) -> AbstractContextManager[TrainingObserver]:
        """Look on at a training; the block ends with it."""


class SilentObserver:
    """A observer that keeps still."""

    def advance(self, n: int = 1) -> None:
        """Take no notice."""

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Take no notice."""

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Take no notice."""


class SilentReporter:
    """A reporter that says nothing: the default of the Python API."""

    def note(self, text: str) -> None:
        """Drop the note."""

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Yield a bar that shows nothing."""
        yield SilentObserver()

    @contextmanager
    def training(self, training: TrainingProgress) -> Iterator[TrainingObserver]:
        """Yield a observer that says nothing."""
        yield SilentObserver()


class ForwardingReporter:
    """Hands everything on to another reporter; what is told otherwise is written over.

    Args:
        reporter: the other one.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def note(self, text: str) -> None:
        """Say it there."""
        self._reporter.note(text)

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open the bar there."""
        return self._reporter.bar(what, total, unit)

    def training(self, training: TrainingProgress) -> AbstractContextManager[TrainingObserver]:
        """Look on from there."""
        return self._reporter.training(training)


class DeduplicatingReporter(ForwardingReporter):
    """Passes each note on once: a command that opens the same data set many times says so but once."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(reporter)
        self._said: set[str] = set()

    def note(self, text: str) -> None:
        """Pass a note on, if it is new."""
        if text not in self._said:
            self._said.add(text)
            super().note(text)


class CombinedObserver:
    """Several observers as one."""

    def __init__(self, *observers: TrainingObserver) -> None:
        self._observers = observers

    def advance(self, n: int = 1) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.advance(n)

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.losses(step, means)

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Tell each."""
        for observer in self._observers:
            observer.evaluated(record, best)
