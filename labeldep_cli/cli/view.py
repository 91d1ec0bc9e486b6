"""The live view of a training on a terminal: losses and scores, their trends, and the time left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from labeldep_cli.cli.lines import SCORES, Clock, losses_of
from labeldep_cli.progress import TrainingProgress
from labeldep_cli.reports.quantities import name_of
from labeldep_cli.text import visible

_TREND = 30  # values in a trend, one column each
_COLUMNS_WITHOUT_TREND = 48
_LEVELS = "▁▂▃▄▅▆▇█"

Trends = Mapping[str, tuple[float, ...]]
"""The last values of each quantity, oldest first."""


class View:
    """An observer that rich draws from another thread. So its values are replaced, never changed in place.

    Args:
        training: the training.
    """

    def __init__(self, training: TrainingProgress) -> None:
        self._training = training
        self._clock = Clock(training)
        self._step = training.done
        self._reported: set[str] = set()
        self._losses: Trends = {}
        self._scores: Trends = {}
        self._best: Mapping[str, Any] | None = None
        for record in training.history:
            self.evaluated(record, best=record["step"] == training.best)

    def advance(self, n: int = 1) -> None:
        """Count steps."""
        self._step += n

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Add the newest losses."""
        self._reported |= means.keys()
        self._losses = _extended(self._losses, means)

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Add the newest scores, and those losses that `losses` does not report."""
        further = {name: value for name, value in losses_of(record).items() if name not in self._reported}
        self._losses = _extended(self._losses, further)
        self._scores = _extended(self._scores, {name: record["val"][name] for name in SCORES})
        if best:
            self._best = record

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the progress above and the quantities below, with trends if width and encoding allow them."""
        trend = 0 if options.ascii_only else max(min(options.max_width - _COLUMNS_WITHOUT_TREND, _TREND), 0)
        yield Text(visible(self._training.name), style="bold", overflow="ellipsis", no_wrap=True)
        yield self._progress()
        yield self._quantities(trend)

    def _progress(self) -> Table:
        step, steps = self._step, self._training.steps
        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(no_wrap=True)
        text = f"step {step}/{steps}  {self._clock.pace(step):.3g} steps/s  {self._clock.left(step)}"
        grid.add_row(ProgressBar(steps, step), text)
        return grid

    def _quantities(self, trend: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("training", no_wrap=True)
        table.add_column("now", justify="right", no_wrap=True, min_width=8, style="bold")
        table.add_column("", justify="right", no_wrap=True, min_width=8)
        table.add_column("", style="cyan", no_wrap=True)
        for name, values in self._losses.items():
            table.add_row(name_of(name), f"{values[-1]:.4g}", "", _signs(values[-trend:]) if trend else "")
        best = self._best
        heading = ("validation", "now", f"best ({best['step']})" if best else "", "")
        table.add_row(*heading, style="dim not bold")
        for name, values in self._scores.items():
            cells = [f"{value:{SCORES[name]}}" for value in (values[-1], *([best["val"][name]] if best else []))]
            table.add_row(name_of(name), cells[0], *cells[1:] or [""], _signs(values[-trend:]) if trend else "")
        return table


def _extended(trends: Trends, values: Mapping[str, float]) -> Trends:
    return {**trends, **{name: (*trends.get(name, ()), value)[-_TREND:] for name, value in values.items()}}


def _signs(values: Sequence[float]) -> str:
    """A sparkline of values, scaled from the lowest to the highest of them."""
    low, high = min(values), max(values)
    steps = (len(_LEVELS) - 1) / (high - low) if high > low else 0.0
    return "".join(_LEVELS[round((value - low) * steps)] for value in values)
