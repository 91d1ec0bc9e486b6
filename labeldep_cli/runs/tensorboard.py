"""`--tensorboard`: what a training tells, as TensorBoard's events in the run's folder."""

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
    """Refuse to begin where the extra is not installed.

    Raises:
        LabeldepError: how to install it.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401 - whether it can be imported
    except ImportError as error:
        raise LabeldepError(
            "--tensorboard needs the package tensorboard, which is not installed",
            "Install it: pip install 'labeldep[tensorboard]', or: pip install tensorboard",
        ) from error


class Recorded(ForwardingReporter):
    """A reporter that has every training written down as well.

    Args:
        reporter: what is told goes there too.
        run: the run's folder.
    """

    def __init__(self, reporter: Reporter, run: Path) -> None:
        super().__init__(reporter)
        self._folder = run / TENSORBOARD

    @contextmanager
    def training(self, training: TrainingProgress) -> Iterator[TrainingObserver]:
        """Look on from there, and write."""
        with super().training(training) as observer, closing(Events(self._folder, training)) as events:
            yield CombinedObserver(observer, events)


class Events:
    """A observer that writes scalars: `train/LOSS` as they are told, `val/SCORE` of each evaluation.

    They fit what the run goes on from: those past its last checkpoint, which a kill has left, are taken back, and the
    evaluations of a run that was begun without are made up for.

    Args:
        folder: of the events.
        training: the training that begins or goes on.

    Raises:
        StorageError: the disk is full, read-only or forbidden; any call may.
    """

    def __init__(self, folder: Path, training: TrainingProgress) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        self._told: set[str] = set()
        with storing(folder):
            if not training.history:
                shutil.rmtree(folder, ignore_errors=True)
            begun = _begun(folder)
            after = training.done + 1 if begun else None
            self._writer = SummaryWriter(str(folder), purge_step=after)
        for record in () if begun else training.history:
            self.evaluated(record, best=False)

    def advance(self, n: int = 1) -> None:
        """Nothing is written of an update alone."""

    def losses(self, step: int, means: Mapping[str, float]) -> None:
        """Write mean losses."""
        self._told |= means.keys()
        self._write(step, {f"train/{name}": value for name, value in means.items()})

    def evaluated(self, record: Mapping[str, Any], best: bool) -> None:
        """Write scores, and of the record's losses those that were not told on the way; all reach the disk."""
        further = {name: value for name, value in record.items() if name not in self._told}
        train = {f"{'val' if name.endswith('_val') else 'train'}/{name}": value for name, value in further.items()}
        val = {f"val/{name}": value for name, value in record["val"].items()}
        self._write(record["step"], {name: v for name, v in (train | val).items() if isinstance(v, float)})
        with storing(self._folder):
            self._writer.flush()

    def close(self) -> None:
        """Let the file go."""
        with storing(self._folder):
            self._writer.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        with storing(self._folder):
            for tag, value in values.items():
                self._writer.add_scalar(tag, value, step)


def make_up(run: Path) -> None:
    """Write the events of a finished run that was trained without, from its metrics.jsonl."""
    if _begun(run / TENSORBOARD):
        return
    history = read_metrics(run)
    if history:
        Events(run / TENSORBOARD, TrainingProgress(run.name, history[-1]["step"], tuple(history))).close()


def _begun(folder: Path) -> bool:
    return any(folder.glob("events.out.tfevents.*"))
