"""`labeldep runs`: list the runs. Only their small files are read, and torch is not imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from labeldep_cli.config import DEFAULT_HEAD, AdversarialConfig, TrainingConfig, pick
from labeldep_cli.errors import CheckpointError
from labeldep_cli.files import locked
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, LOCK, RESULT, facts_in_head, read_metrics
from labeldep_cli.runs.record import COMMANDS, read_run_record

SCORES = ("mAP", "CF1", "OF1", "exact_match")
STAGES = ("pretrain", "adversarial", "control", "critic", "kernel")
"""What `TrainingConfig.stage` may be."""

State = Literal["finished", "training", "unfinished", "no checkpoint"]


@dataclass(frozen=True)
class RunRow:
    """Summary of a run.

    Attributes:
        run: its folder.
        name: its name for `eval`, `predict` and other commands: the folder relative to the runs folder.
        stage: pretrain, adversarial, control or critic.
        dataset: name of its data set.
        backbone: name of the backbone; None for ready features.
        full: whether the backbone was trained too.
        head: kind of the head, which turns features into logits.
        critic: wgan-gp or nce; None without one.
        seed: the seed of the run.
        state: "training" if a process holds its lock right now.
        step, steps: number of generator updates so far, and in total.
        best_step: the step of its best checkpoint; None before the first evaluation after an update.
        val: SCORES at that step, for sets at p > 0.5; None in the same case.
        bytes: size of its folder.
        changed: when its best checkpoint was written (if it has none, its config.json), ISO 8601 in UTC.
        started: when it was started, ISO 8601 in UTC.
    """

    run: Path
    name: str
    stage: str
    dataset: str
    backbone: str | None
    full: bool
    head: str
    critic: str | None
    seed: int
    state: State
    step: int
    steps: int
    best_step: int | None
    val: dict[str, float] | None
    bytes: int
    changed: str
    started: str

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON."""
        return {**asdict(self), "run": str(self.run)}


def list_runs(runs_dir: Path, reporter: Reporter) -> list[RunRow]:
    """All runs in a folder and one level below it (where `reproduce` puts them), the newest first.

    Runs with broken files are left out, with a note to the reporter.
    """
    rows: list[RunRow] = []
    for folder in run_folders(runs_dir):
        try:
            record = read_run_record(folder)
            if record is not None:
                rows.append(_row(folder, runs_dir, record))
        except (CheckpointError, OSError, ValueError) as error:
            why = error.what if isinstance(error, CheckpointError) else f"its {CONFIG} is broken: {error}"
            reporter.note(f"left out: {folder}: {why}; train it again with --fresh, or remove it")
    return sorted(rows, key=lambda row: row.started, reverse=True)


def run_folders(runs_dir: Path) -> Iterator[Path]:
    """The folders that may be runs, sorted by name."""
    for pattern in ("*", "*/*"):
        # os.path returns False where Path's method raises: for a folder without permission.
        yield from (folder for folder in sorted(runs_dir.glob(pattern)) if os.path.isdir(folder))  # noqa: PTH112


def stage_of(record: Mapping[str, Any]) -> str:
    """One of STAGES."""
    return _config_of(record).stage


def _config_of(record: Mapping[str, Any]) -> TrainingConfig:
    return pick(COMMANDS[record["command"]], record["settings"])


def started_of(folder: Path, record: Mapping[str, Any]) -> datetime:
    """When a run was started, from its config.json; the times of its files change when it is copied.

    If config.json does not contain the time, it is that of the run's first existing file.
    """
    with suppress(ValueError, KeyError, TypeError):
        started = datetime.fromisoformat(record["started"])
        return started if started.tzinfo else started.replace(tzinfo=timezone.utc)
    file = next((folder / name for name in (CONFIG, BEST, LAST) if (folder / name).exists()), folder)
    return datetime.fromtimestamp(file.stat().st_mtime, timezone.utc)


def format_started(started: datetime) -> str:
    """The time as a person reads it, on this machine's clock: "2026-11-29 11:05"."""
    return f"{started.astimezone():%Y-%m-%d %H:%M}"


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a training in progress may rename its files
            total += path.stat().st_size if path.is_file() else 0
    return total


def _row(folder: Path, runs_dir: Path, record: dict[str, Any]) -> RunRow:
    config = _config_of(record)
    step, best = _progress(folder, config)
    critic = config.critic if isinstance(config, AdversarialConfig) and config.critic != "none" else None
    clock = (folder / BEST) if (folder / BEST).exists() else folder / CONFIG
    return RunRow(
        run=folder,
        name=folder.relative_to(runs_dir).as_posix(),
        stage=config.stage,
        dataset=record["dataset"]["name"],
        backbone=record["settings"].get("backbone"),
        full=config.full,
        head=config.head or DEFAULT_HEAD,
        critic=critic,
        seed=config.seed,
        state=_state(folder),
        step=step,
        steps=record["steps"],
        best_step=best["step"] if best else None,
        val={name: best["val"][name] for name in SCORES} if best else None,
        bytes=folder_bytes(folder),
        changed=datetime.fromtimestamp(clock.stat().st_mtime, timezone.utc).isoformat(timespec="microseconds"),
        started=started_of(folder, record).astimezone(timezone.utc).isoformat(timespec="microseconds"),
    )


def _state(folder: Path) -> State:
    if locked(folder / LOCK):
        return "training"
    if not any((folder / name).exists() for name in (BEST, LAST)):
        return "no checkpoint"
    return "finished" if (folder / RESULT).exists() else "unfinished"


def _progress(folder: Path, config: TrainingConfig) -> tuple[int, dict[str, Any] | None]:
    """The step from which it resumes, and the record of the best evaluation by the rule that training uses."""
    records = read_metrics(folder)
    updated = [record for record in records if record["step"]]

    # If G is frozen, its scores on val do not change, and the critic's score on val decides.
    def value(record: dict[str, Any]) -> float:
        chosen = record["step"] if config.selection == "last" else record["val"][config.selection]
        return float(record.get("critic_val", chosen))

    best = max(updated, key=value, default=None)
    evaluated = records[-1]["step"] if records else 0
    return max(evaluated, facts_in_head(folder / LAST).get("step", 0)), best
