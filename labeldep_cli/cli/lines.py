"""A training told in plain lines, where stderr is no terminal: few enough for a CI's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from labeldep_cli.progress import TrainingProgress

SCORES = {"mAP": ".1f", "CF1": ".1f", "exact_match": ".1f", "labels_per_image": ".2f"}
"""The scores on val that are told, and their digits."""

QUIET = 60.0
"""Seconds without a line after which losses alone are told, where evaluations are far apart."""


class Clock:
    """How long a training takes, by its mean pace since it began or went on.

    Args:
        training: the training.
    """

    def __init__(self, training: TrainingProgress) -> None:
        self._training = training
        self._start = time.monotonic()

    @property
    def spent(self) -> timedelta:
        """Since the start."""
        return timedelta(seconds=round(time.monotonic() - self._start))

    def pace(self, step: int) -> float:
        """Steps a second up to a step; 0 before the first."""
        return (step - self._training.done) / max(time.monotonic() - self._start, 1e-9)

    def left(self, step: int) -> str:
        """The time that is left at a step, in words; empty before the first step and after the last."""
        pace, steps = self.pace(step), self._training.steps - step
        return f"{timedelta(seconds=round(steps / pace))} left" if pace and steps else ""


class Lines:
    """A observer that says a line for an evaluation, at even distances, and one at the end.

    Args:
        training: the training.
        many: lines in all, about; 0 for the closing one alone.
        say: prints a line.
    """

    def __init__(self, training: TrainingProgress, many: int, say: Callable[[str], None]) -> None:
        self._training, self._many, self._say = training, many, say
        self._clock = Clock(training)
        self._step = training.done
        self._best = next((record for record in training.history if record["step"] == training.best), None)
        self._scored = self._share(training.done) if training.history or not many else -1
        self._spoken, self._spoke_at = self._scored, time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Count."""
        self._step += n

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Say them where a part of the training has passed, and a while, without a line."""
        if self._share(step) > self._spoken and time.monotonic() - self._spoke_at >= QUIET:
            self._tell(step, means)

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Say losses and scores where a part of the training has passed since those that were said."""
        if best:
            self._best = record
        if self._share(record["step"]) > self._scored:
            self._scored = self._share(record["step"])
            self._tell(record["step"], record)

    def close(self) -> None:
        """Say what was reached, unless there was nothing left to do."""
        if self._best is not None and self._step > self._training.done:
            self._say(
                f"trained to step {self._step} of {self._training.steps} in {self._clock.spent}; "
                f"the best, step {self._best['step']}: {scores_of(self._best)}"
            )

    def _share(self, step: int) -> int:
        return step * self._many // self._training.steps

    def _tell(self, step: int, record: Mapping[str, Any]) -> None:
        losses = ", ".join(f"{title(name)} {value:.4g}" for name, value in losses_of(record).items())
        parts = [losses, scores_of(record), self._clock.left(step)]
        self._say(f"step {step} of {self._training.steps}: {'; '.join(part for part in parts if part)}")
        self._spoken, self._spoke_at = self._share(step), time.monotonic()


def title(name: str) -> str:
    """A quantity's name in metrics.jsonl, in words."""
    return name.replace("_", " ")


def losses_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What a record says of training."""
    return {name: value for name, value in record.items() if name not in ("step", "val")}


def scores_of(record: Mapping[str, Any]) -> str:
    """What a record says of val, in words; empty where nothing was evaluated."""
    if "val" not in record:
        return ""
    return "val " + ", ".join(f"{title(name)} {record['val'][name]:{digits}}" for name, digits in SCORES.items())
