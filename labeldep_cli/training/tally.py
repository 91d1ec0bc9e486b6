"""The losses between two evaluations: their means, and a check that they are finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from labeldep_cli.errors import TrainingError
from labeldep_cli.runs.layout import LAST

_MAX_PENDING = 32


class Tally:
    """Means of the losses since the last evaluation, with a check that they are finite.

    The losses of up to `_MAX_PENDING` steps are copied from the device together, since a GPU would wait for a copy at
    each step. The first copies come sooner, after 1, 2, 4, ... steps, so that progress is visible early if steps are
    slow.

    Args:
        step: number of updates so far.
        folder: folder of the run, for error messages.
        report: called after each copy, with the last step and the mean losses of the copied steps.
        losses: the result of `losses` from when the run was interrupted; None or empty after an evaluation.
    """

    def __init__(
        self,
        step: int,
        folder: Path,
        report: Callable[[int, Mapping[str, float]], None],
        losses: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._step = step
        self._folder = folder
        self._report = report
        self._due = 1
        self._names: tuple[str, ...] = tuple(losses or ())
        self._pending: list[Tensor] = []
        self._rows: list[list[float]] = [list(row) for row in zip(*(losses or {}).values(), strict=True)]

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of one step.

        Raises:
            TrainingError: a loss of one of the last steps is not finite; names the first such step.
        """
        self._names = tuple(losses)
        self._pending.append(torch.stack(list(losses.values())))
        if len(self._pending) >= self._due:
            self._due = min(2 * self._due, _MAX_PENDING)
            self._fetch()

    def means(self) -> dict[str, float]:
        """The mean of each loss.

        Raises:
            TrainingError: as for `add`.
        """
        self._fetch()
        return self._means(self._rows)

    def losses(self) -> dict[str, list[float]]:
        """Each loss, one number per update, from which another tally can continue.

        Raises:
            TrainingError: as for `add`.
        """
        self._fetch()
        return {name: [row[k] for row in self._rows] for k, name in enumerate(self._names)}

    def reset(self) -> None:
        """Forget all losses, after an evaluation."""
        self._rows = []

    def _means(self, rows: Sequence[Sequence[float]]) -> dict[str, float]:
        return {name: sum(row[k] for row in rows) / len(rows) for k, name in enumerate(self._names)}

    def _fetch(self) -> None:
        if not self._pending:
            return
        rows = torch.stack(self._pending).tolist()
        for row in rows:
            self._step += 1
            broken = [f"{n} = {value}" for n, value in zip(self._names, row, strict=True) if not math.isfinite(value)]
            if broken:
                raise diverged(f"the loss is not finite at step {self._step} ({', '.join(broken)})", self._folder)
        self._rows += rows
        self._pending = []
        self._report(self._step, self._means(rows))


def diverged(what: str, folder: Path) -> TrainingError:
    """The error of a training whose numbers are no longer finite; names the last good checkpoint in its folder."""
    kept = f"the last good checkpoint is {folder / LAST}" if (folder / LAST).exists() else "nothing was saved yet"
    return TrainingError(
        f"{what}; {kept}",
        "Lower --lr (and --critic-lr), or look for extreme features; then train again: --fresh, or --out FOLDER.",
    )
