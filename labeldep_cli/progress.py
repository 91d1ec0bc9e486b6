"""The interface by which library code reports notes and progress without printing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


class Bar(Protocol):
    """The progress of one task."""

    def advance(self, n: int = 1) -> None:
        """Report that n more units are done."""


@dataclass(frozen=True)
class TrainingProgress:
    """The state of a training at its start or when it resumes.

    Attributes:
        name: name of the run.
        steps: total number of generator updates.
        history: the evaluations so far, records of metrics.jsonl; empty before the first.
        best: the step of the best evaluation; None before the first.
        resumed: the step at which it resumes; None for that of the last evaluation.
    """

    name: str
    steps: int
    history: tuple[Mapping[str, Any], ...] = ()
    best: int | None = None
    resumed: int | None = None

    @property
    def done(self) -> int:
        """Number of generator updates made before."""
        if self.resumed is not None:
            return self.resumed
        return int(self.history[-1]["step"]) if self.history else 0


class TrainingObserver(Bar, Protocol):
    """Receives the progress of a training; `advance` counts generator updates."""

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Receive the mean losses of the updates since the last call; `step` is the last of these updates."""

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Receive an evaluation: its record of metrics.jsonl, and whether it is the best so far."""


class Reporter(Protocol):
    """Receives notes and progress; the command line shows them on stderr."""

    def note(self, text: str) -> None:
        """Report one sentence to the user."""

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open a progress bar over `total` units ("images", "shards"); `total` is None if it is unknown."""

    def training(self, training: TrainingProgress) -> AbstractContextManager[TrainingObserver]:
        """Open an observer of a training; the block ends with the training."""


class SilentObserver:
    """An observer that ignores everything."""

    def advance(self, n: int = 1) -> None:
        """Ignore the progress."""

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Ignore the losses."""

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Ignore the evaluation."""


class SilentReporter:
    """A reporter that ignores everything: the default of the Python API."""

    def note(self, text: str) -> None:
        """Ignore the note."""

    @contextmanager
    def bar(self, what: str, total: int | None, unit: str) -> Iterator[Bar]:
        """Yield a bar that shows nothing."""
        yield SilentObserver()

    @contextmanager
    def training(self, training: TrainingProgress) -> Iterator[TrainingObserver]:
        """Yield an observer that ignores everything."""
        yield SilentObserver()


class ForwardingReporter:
    """Forwards everything to another reporter; subclasses override what they report differently.

    Args:
        reporter: the other reporter.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def note(self, text: str) -> None:
        """Forward the note."""
        self._reporter.note(text)

    def bar(self, what: str, total: int | None, unit: str) -> AbstractContextManager[Bar]:
        """Open the bar of the other reporter."""
        return self._reporter.bar(what, total, unit)

    def training(self, training: TrainingProgress) -> AbstractContextManager[TrainingObserver]:
        """Open the observer of the other reporter."""
        return self._reporter.training(training)


class DeduplicatingReporter(ForwardingReporter):
    """Forwards each note once, for commands that open the same data set many times."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__(reporter)
        self._seen: set[str] = set()

    def note(self, text: str) -> None:
        """Forward a note, if it is new."""
        if text not in self._seen:
            self._seen.add(text)
            super().note(text)


class CombinedObserver:
    """Several observers as one."""

    def __init__(self, *observers: TrainingObserver) -> None:
        self._observers = observers

    def advance(self, n: int = 1) -> None:
        """Forward the progress to each observer."""
        for observer in self._observers:
            observer.advance(n)

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Forward the losses to each observer."""
        for observer in self._observers:
            observer.losses(step, means)

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Forward the evaluation to each observer."""
        for observer in self._observers:
            observer.evaluated(record, best)
