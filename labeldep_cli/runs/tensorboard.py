"""`--tensorboard`: write losses and scores of a training as TensorBoard events in the run's folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from labeldep_cli.errors import LabeldepError
from labeldep_cli.files import storing
from labeldep_cli.progress import CombinedObserver, ForwardingReporter, Reporter, TrainingObserver, TrainingProgress
from labeldep_cli.runs.layout import TENSORBOARD, read_metrics


def require_tensorboard() -> None:
    """Check that the package is installed.

    Raises:
        LabeldepError: it is not; the error says how to install it.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 - only to test that it can be imported
    except ImportError as error:
        raise LabeldepError(
            "--tensorboard needs the package tensorboard, which is not installed",
            "Install it: pip install 'labeldep[tensorboard]', or: pip install tensorboard",
        ) from error


class RecordingReporter(ForwardingReporter):
    """A reporter that also writes every training to TensorBoard events.

    Args:
        reporter: receives all reports too.
        run: folder of the run.
    """

    def __init__(self, reporter: Reporter, run: Path) -> None:
        super().__init__(reporter)
        self._folder = run / TENSORBOARD

    @contextmanager
    def training(self, training: TrainingProgress) -> Iterator[TrainingObserver]:
        """Forward the training's progress to the other reporter, and write events."""
        with super().training(training) as observer, closing(Events(self._folder, training)) as events:
            yield CombinedObserver(observer, events)


class Events:
    """An observer that writes scalars: `train/LOSS` when losses are reported, `val/SCORE` at each evaluation.

    The events agree with the checkpoint from which a run continues. Events after it, left by a kill, are discarded. If
    a run was started without events, those of its earlier evaluations are written first.

    Args:
        folder: the folder of the events.
        training: the training that begins or continues.

    Raises:
        StorageError: the disk is full, read-only or without permission. Every method can raise it.
    """

    def __init__(self, folder: Path, training: TrainingProgress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._written: set[str] = set()
        with storing(folder):
            if not training.history:
                shutil.rmtree(folder, ignore_errors=True)
            has_events = _has_events(folder)
            after = training.done + 1 if has_events else None
            self._writer = SummaryWriter(str(folder), purge_step=after)
        for record in () if has_events else training.history:
            self.evaluated(record, best=False)

    def advance(self, n: int = 1) -> None:
        """Do nothing: single updates are not written."""

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Write mean losses."""
        self._written |= means.keys()
        self._write(step, {f"train/{name}": value for name, value in means.items()})

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Write the scores, and those losses of the record that `losses` has not written; then flush to the disk."""
        unwritten = {name: value for name, value in record.items() if name not in self._written}
        train = {f"{'val' if name.endswith('_val') else 'train'}/{name}": value for name, value in unwritten.items()}
        val = {f"val/{name}": value for name, value in record["val"].items()}
        self._write(record["step"], {name: v for name, v in (train | val).items() if isinstance(v, float)})
        with storing(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        with storing(self._folder):
            self._writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        with storing(self._folder):
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, step)


def write_missing_events(run: Path) -> None:
    """Write the events of a finished run that was trained without `--tensorboard`, from its metrics.jsonl."""
    if _has_events(run / TENSORBOARD):
        return
    history = read_metrics(run)
    if history:
        Events(run / TENSORBOARD, TrainingProgress(run.name, history[-1]["step"], tuple(history))).close()


def _has_events(folder: Path) -> bool:
    return any(folder.glob("events.out.tfevents.*"))
