"""The progress of a training in plain lines, for stderr that is not a terminal; few enough for a CI's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from labeldep_cli.progress import TrainingProgress

SCORES = {"mAP": ".1f", "CF1": ".1f", "exact_match": ".1f", "labels_per_image": ".2f"}
"""The scores on val that are printed, and their formats."""

QUIET = 60.0
"""Seconds without a line after which losses alone are printed, if evaluations are far apart."""


class Clock:
    """Time spent and time left of a training, by its mean speed since it was started or resumed.

    Args:
        training: the training.
    """

    def __init__(self, training: TrainingProgress) -> None:
        self._training = training
        self._start = time.monotonic()

    @property
    def spent(self) -> timedelta:
        """Time since the start."""
        return timedelta(seconds=round(time.monotonic() - self._start))

    def pace(self, step: int) -> float:
        """Mean steps per second up to a step; 0 before the first step."""
        return (step - self._training.done) / max(time.monotonic() - self._start, 1e-9)

    def left(self, step: int) -> str:
        """The time left at a step, for example "0:00:08 left"; empty before the first step and after the last."""
        pace, steps = self.pace(step), self._training.steps - step
        return f"{timedelta(seconds=round(steps / pace))} left" if pace and steps else ""


class Lines:
    """An observer that prints lines for evaluations, evenly spread over the training, and one at the end.

    Args:
        training: the training.
        n_lines: approximate number of lines; 0 for the last one alone.
        print_line: prints a line.
    """

    def __init__(self, training: TrainingProgress, n_lines: int, print_line: Callable[[str], None]) -> None:
        self._training, self._n_lines, self._print_line = training, n_lines, print_line
        self._clock = Clock(training)
        self._step = training.done
        self._best = next((record for record in training.history if record["step"] == training.best), None)
        self._scored = self._part(training.done) if training.history or not n_lines else -1
        self._printed, self._printed_at = self._scored, time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Count steps."""
        self._step += n

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Print losses if a part of the training and `QUIET` seconds have passed since the last line."""
        if self._part(step) > self._printed and time.monotonic() - self._printed_at >= QUIET:
            self._print(step, means)

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Print losses and scores if a part of the training has passed since the last scores that were printed."""
        if best:
            self._best = record
        if self._part(record["step"]) > self._scored:
            self._scored = self._part(record["step"])
            self._print(record["step"], record)

    def close(self) -> None:
        """Print the last step and the best scores, unless the training was finished already."""
        if self._best is not None and self._step > self._training.done:
            self._print_line(
                f"trained to step {self._step} of {self._training.steps} in {self._clock.spent}; "
                f"the best, step {self._best['step']}: {scores_of(self._best)}"
            )

    def _part(self, step: int) -> int:
        """Which of the `n_lines` equal parts of the training a step is in."""
        return step * self._n_lines // self._training.steps

    def _print(self, step: int, record: Mapping[str, Any]) -> None:
        losses = ", ".join(f"{title(name)} {value:.4g}" for name, value in losses_of(record).items())
        parts = [losses, scores_of(record), self._clock.left(step)]
        self._print_line(f"step {step} of {self._training.steps}: {'; '.join(part for part in parts if part)}")
        self._printed, self._printed_at = self._part(step), time.monotonic()


def title(name: str) -> str:
    """The name of a quantity in metrics.jsonl, with spaces for underscores."""
    return name.replace("_", " ")


def losses_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The training losses of a record of metrics.jsonl."""
    return {name: value for name, value in record.items() if name not in ("step", "val")}


def scores_of(record: Mapping[str, Any]) -> str:
    """The scores on val of a record, as text; empty if it has none."""
    if "val" not in record:
        return ""
    return "val " + ", ".join(f"{title(name)} {record['val'][name]:{digits}}" for name, digits in SCORES.items())
