"""`labeldep tune`: a search over settings, scored on val."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import Machine, RunWorkspace, Source, TuneConfig, Workspace
from labeldep_cli.experiments.scores import predict_split
from labeldep_cli.experiments.train import adversarial, pretrain
from labeldep_cli.experiments.tuning import ROUNDS, SURE_FROM, Measured, Trial, measure, repeat
from labeldep_cli.files import write_json
from labeldep_cli.progress import DeduplicatingReporter, Reporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run
from labeldep_cli.schemas import NonNegative, conform, parse_json

SECONDS = "tune.json"
"""The file in the folder of a search that has the seconds of each finished trial."""


@dataclass(frozen=True)
class Tuned:
    """The result of a search.

    Attributes:
        dataset: its name.
        score: the score that was raised.
        n_val: val rows.
        trials: those that are finished, in order; the first one has the defaults.
        left_out: why trials were left out: "--trials", "--budget" or "Ctrl-C"; empty if none was.
        commands: they train the best trial's networks again.
    """

    dataset: str
    score: str
    n_val: int
    trials: tuple[Measured, ...]
    left_out: str
    commands: tuple[str, ...]

    @property
    def best(self) -> Measured:
        """The trial with the best score; of equal ones the first."""
        return _best(self.trials)

    def to_json(self) -> dict[str, Any]:
        """The JSON object that `tune --json` prints."""
        return {
            "dataset": self.dataset,
            "split": "val",
            "score": self.score,
            "n_val": self.n_val,
            "trials": [trial.to_json(self.trials[0]) for trial in self.trials],
            "best": self.best.trial.name,
            "left_out": self.left_out,
            "commands": list(self.commands),
        }


def plan() -> dict[str, list[str]]:
    """The names of the trials by round, if the defaults stay the best."""
    return {name: [trial.name for trial in trials(Trial())] for name, trials in ROUNDS.items()}


def tune(
    workspace: Workspace, source: Source, machine: Machine, config: TuneConfig, reporter: Reporter
) -> Tuned | None:
    """Train and score one trial after the other; finished ones are taken from the folder of the search.

    Returns:
        The result; None if the first trial was interrupted.

    Raises:
        LabeldepError: as for `pretrain` and `adversarial`.
    """
    reporter = DeduplicatingReporter(reporter)
    project = open_project(workspace, source, machine, reporter)
    seed = f"-seed{config.seed}" if config.seed else ""
    folder = workspace.runs_dir / f"tune-{project.name}{seed}"
    found: list[Measured] = []
    left_out = ""
    search = _Search(workspace, source, machine, config, folder, reporter)
    began = time.monotonic()
    try:
        for trial in _trials(found):
            if config.trials is not None and len(found) >= config.trials:
                left_out = "--trials"
                break
            if config.budget is not None and found and time.monotonic() - began >= 60 * config.budget:
                left_out = "--budget"
                break
            reporter.note(f"trial {len(found) + 1}: {trial.name}")
            found.append(search.run(trial))
            _tell(found, config, reporter)
    except KeyboardInterrupt:
        left_out = "Ctrl-C"
    if not found:
        return None
    return _result(project, found, left_out, config)


def _result(project: Project, found: list[Measured], left_out: str, config: TuneConfig) -> Tuned:
    commands = repeat(project, _best(found), config.seed)
    n_val = len(project.dataset.splits["val"])
    return Tuned(project.dataset.name, config.score, n_val, tuple(found), left_out, commands)


def _best(found: list[Measured] | tuple[Measured, ...]) -> Measured:
    return max(found, key=lambda measured: float(measured.scores[0]))


def _trials(found: list[Measured]) -> Iterator[Trial]:
    """The trials of each round, around the best one that is found until then; none twice."""
    seen: set[Trial] = set()
    for trials in ROUNDS.values():
        for trial in trials(_best(found).trial if found else Trial()):
            if trial not in seen:
                seen.add(trial)
                yield trial


def _tell(found: list[Measured], config: TuneConfig, reporter: Reporter) -> None:
    score = found[-1].score
    reporter.note(
        f"{found[-1].trial.name}: {config.score} {score.difference:.1f} [{score.low:.1f}, {score.high:.1f}] on val; "
        f"best so far: {_best(found).trial.name}"
    )


@dataclass(frozen=True)
class _Search:
    """Runs trials in the folder of the search."""

    workspace: Workspace
    source: Source
    machine: Machine
    config: TuneConfig
    folder: Path
    reporter: Reporter

    def run(self, trial: Trial) -> Measured:
        """Train a trial's networks, or find them finished, and score them on val."""
        began = time.monotonic()
        place, seed = (self.workspace, self.source, self.machine), self.config.seed
        start = pretrain(*place, trial.pretraining(seed), Job(self.folder / trial.generator_name), self.reporter)
        job = Job(self.folder / trial.name)
        critic = adversarial(*place, trial.criticism(seed), str(start.folder), job, self.reporter)
        seconds = self._seconds(trial, time.monotonic() - began)
        run = open_run(str(critic.folder), self.workspace.runs_dir)
        where = RunWorkspace(self.workspace.runs_dir)
        predictions = predict_split(run, where, self.machine, "val", None, self.reporter)
        n = len(predictions.inputs.labels)
        if n < SURE_FROM:
            self.reporter.note(
                f"val has only {n} rows: of two trials, the better one here may well be the worse one elsewhere. "
                "The defaults are a good choice, unless the interval of a difference lies above 0."
            )
        return measure(trial, predictions, self.config.score, seconds)

    def _seconds(self, trial: Trial, now: float) -> float:
        """The seconds of a trial: of the call that finished it, if an earlier one did."""
        file = self.folder / SECONDS
        known: dict[str, float] = {}
        with suppress(OSError, ValueError):  # of a broken file, the seconds alone are lost
            known = conform(parse_json(file.read_text(encoding="utf-8")), dict[str, NonNegative])
        if trial.name not in known:
            write_json(file, {**known, trial.name: now})
        return float(known.get(trial.name, now))
