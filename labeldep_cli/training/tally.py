"""The losses between two evaluations: their means, and a watch on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from labeldep_cli.errors import TrainingError
from labeldep_cli.runs.layout import LAST

_WATCHED = 32


class Tally:
    """Means of the losses since the last evaluation; and a watch on them.

    The losses of up to `_WATCHED` steps leave the device together: a transfer at each step would have a GPU wait for
    it. The first come sooner, after 1, 2, 4, ... steps: where steps are slow, one wants to see that it learns.

    Args:
        step: updates made so far.
        folder: of the run, for the message.
        tell: called with the last step and the mean losses of each such transfer.
        losses: what `losses` gave when the run was interrupted; empty after an evaluation.
    """

    def __init__(
        self,
        step: int,
        folder: Path,
        tell: Callable[[int, Mapping[str, float]], None],
        losses: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self._step = step
        self._folder = folder
        self._tell = tell
        self._due = 1
        self._names: tuple[str, ...] = tuple(losses or ())
        self._pending: list[Tensor] = []
        self._rows: list[list[float]] = [list(row) for row in zip(*(losses or {}).values(), strict=True)]

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """Take the losses of one more step.

        Raises:
            TrainingError: one of the last steps had a loss that is not finite; names the first such step.
        """
        self._names = tuple(losses)
        self._pending.append(torch.stack(list(losses.values())))
        if len(self._pending) >= self._due:
            self._due = min(2 * self._due, _WATCHED)
            self._fetch()

    def means(self) -> dict[str, float]:
        """The mean of each loss.

        Raises:
            TrainingError: as for `add`.
        """
        self._fetch()
        return self._means(self._rows)

    def losses(self) -> dict[str, list[float]]:
        """Each loss, one number an update, from which another tally can go on.

        Raises:
            TrainingError: as for `add`.
        """
        self._fetch()
        return {name: [row[k] for row in self._rows] for k, name in enumerate(self._names)}

    def reset(self) -> None:
        """Start afresh, after an evaluation."""
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
        self._tell(self._step, self._means(rows))


def diverged(what: str, folder: Path) -> TrainingError:
    """The error of a training that no longer has finite numbers; names the last good checkpoint in its folder."""
    kept = f"the last good checkpoint is {folder / LAST}" if (folder / LAST).exists() else "nothing was saved yet"
    return TrainingError(
        f"{what}; {kept}",
        "Lower --lr (and --critic-lr), or look for extreme features; then train anew: --fresh, or --out FOLDER.",
    )
