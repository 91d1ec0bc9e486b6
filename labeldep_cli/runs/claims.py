"""A run's folder: whose it is, and whether it is finished."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import DEFAULT_HEAD, AdversarialConfig, changed
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import write_json
from labeldep_cli.inputs.batches import Blocks
from labeldep_cli.progress import Reporter
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.changes import changes, in_words
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, METRICS, RESULT, ROWS, TENSORBOARD
from labeldep_cli.runs.record import LABEL_REDUCTION_BEFORE, read_config, result_of
from labeldep_cli.runs.rows import Rows, read_rows, save_rows


@dataclass(frozen=True)
class Job:
    """Where a run is written, whether what stands there is dropped first, and whether TensorBoard's events are too.

    None of it tells runs apart.
    """

    out: Path | None = None
    fresh: bool = False
    tensorboard: bool = False


def clear(folder: Path) -> None:
    """Remove a run's files; the result first, so that a kill on the way leaves no run that looks finished."""
    for name in (RESULT, BEST, LAST, METRICS, ROWS, CONFIG):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / TENSORBOARD, ignore_errors=True)


def claim(folder: Path, record: dict[str, Any], reporter: Reporter, dataset: Dataset | None = None) -> bool:
    """Make a folder this run's own, or find that it is already.

    Args:
        folder: of the run.
        record: its config.json.
        reporter: takes notes.
        dataset: that it is trained on: its rows and labels are kept, too; None to keep none.

    Returns:
        Whether the run is finished; if not, training is to begin or go on.

    Raises:
        CheckpointError: it holds a run of other settings; names them.
    """
    if (folder / CONFIG).exists():
        other = read_config(folder)
        differences = changed(_identity(record), _identity(other))
        if differences:
            told = _with_rows_in_words(differences, folder, dataset)
            raise CheckpointError(
                f"{folder} holds a run with other settings: {'; '.join(told)}",
                "Train into another folder (--out FOLDER), or drop what is there (--fresh).",
            )
        if dataset is not None and not (folder / ROWS).exists():  # from before rows were kept, or killed amid this
            save_rows(folder, dataset)
        if result_of(folder) is not None and checkpoint.read_facts(folder / BEST):
            reporter.note(f"{folder} is finished already; its result:")
            return True
    elif any((folder / name).exists() for name in (LAST, BEST)):
        raise CheckpointError(
            f"{folder} holds checkpoints but no {CONFIG}", "Train into another folder (--out), or drop them (--fresh)."
        )
    else:
        write_json(folder / CONFIG, record)
        if dataset is not None:
            save_rows(folder, dataset)
    return False


def _with_rows_in_words(differences: list[str], folder: Path, dataset: Dataset | None) -> list[str]:
    """The differences, that of the rows' fingerprints in words where the run says which rows it was trained on."""
    kept = None if dataset is None else read_rows(folder)
    if dataset is None or kept is None:
        return differences
    now = Rows.of(dataset)
    parts = [in_words(changes(kept, now)), _label_names(kept.space.names, now.space.names)]
    words = "; ".join(part for part in parts if part) or "rows: another order"
    return [f"the data have changed ({words})" if one.startswith(f"{_ROWS} ") else one for one in differences]


def _label_names(there: tuple[str, ...], here: tuple[str, ...]) -> str:
    """How the names of the labels differ, in words; empty where they do not."""
    if set(there) == set(here):
        return "" if there == here else "labels: another order"
    parts = (("new", set(here) - set(there)), ("gone", set(there) - set(here)))
    return "labels: " + ", ".join(f"{len(names)} {kind}" for kind, names in parts if names)


def begun(folder: Path) -> dict[str, Any]:
    """The record of the run in this folder, unfinished or finished; empty where there is none."""
    return read_config(folder) if (folder / CONFIG).exists() else {}


def blocks_of(record: Mapping[str, Any]) -> dict[str, Blocks]:
    """How the run of a record reads its training rows, by split; empty where it holds them all."""
    blocks = record.get("blocks")
    return {"train": Blocks(**blocks)} if blocks else {}


_ROWS = "rows"

_LEFT_OUT = ("dataset", "weights", "checkpoint_activations")
"""Settings that do not tell runs apart. Data set and weights go by fingerprint: the same files under another path are
the same. No number depends on whether activations are kept: a run may go on the other way, where memory ran out."""


_BEFORE = {"label_reduction": LABEL_REDUCTION_BEFORE, "max_gradient_norm": 0.0}
"""What a run was trained with that knows nothing of these settings."""


def _identity(record: Mapping[str, Any]) -> dict[str, Any]:
    """What makes two runs the same: settings and fingerprints, without paths, versions, device or clock."""
    # A run of an older version knows nothing of a newer setting: it was trained with what is now its default, or not.
    known = {**AdversarialConfig(head=DEFAULT_HEAD).settings(), **_BEFORE, **record["settings"]}
    settings = {f"--{name.replace('_', '-')}": value for name, value in known.items() if name not in _LEFT_OUT}
    weights, start, blocks = record["weights"], record["start"], record.get("blocks")
    return {
        **settings,
        "command": record["command"],
        "row order (--max-memory)": Blocks(**blocks).told if blocks else "all rows at once",
        "data set": record["dataset"]["name"],
        _ROWS: {name: value[:12] for name, value in record["dataset"]["fingerprints"].items()},
        "weights SHA-256": weights and str(weights["sha256"])[:12],
        "start": start and start["sha256"][:12],
    }
