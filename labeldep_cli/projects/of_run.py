"""Opens the data set that a run was trained on, or another one to score, with the run's backbone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import ExtractConfig, Machine, RunWorkspace, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.alignment import aligned, undivided
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.split import SPLITS, Dataset
from labeldep_cli.errors import DatasetError
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.changes import SplitChange, changes, find_leak, in_words, n_shared, same_dataset
from labeldep_cli.runs.rows import Rows, read_rows
from labeldep_cli.runs.run import Run


@dataclass(frozen=True)
class RunData:
    """The data set that a run scores, compared with the one that it was trained on.

    Attributes:
        run: the run.
        dataset: the data set in its current state, with its labels aligned to the run's.
        trained: the rows and labels at training; None if the run has no record of them.
        now: the rows and labels of `dataset`.
        own: whether it is the data set that the run was trained on, perhaps changed or moved.
        changed: the changes since training, by split; None if they are unknown, or for another data set.
    """

    run: Run
    dataset: Dataset
    trained: Rows | None
    now: Rows
    own: bool
    changed: Mapping[str, SplitChange] | None

    @staticmethod
    def of(run: Run, dataset: Dataset, named: bool) -> RunData:
        """Compare a data set with the one that the run was trained on.

        Args:
            run: the run.
            dataset: the data set, with its labels aligned to the run's.
            named: whether the user named it with `--dataset`. Only then may it be another one.

        Raises:
            DatasetError: it is another data set, and the user did not name it.
        """
        trained, now = read_rows(run.folder), Rows.of(dataset)
        if trained is None:
            recorded = run.config["dataset"]
            same = {name for name in SPLITS if recorded["fingerprints"].get(name) == dataset.splits[name].fingerprint}
            own = not named or bool(same) or recorded["name"] == dataset.name
            return RunData(run, dataset, None, now, own, {} if len(same) == len(SPLITS) else None)
        own = same_dataset(trained, now)
        if not own and not named:
            raise DatasetError(
                f"{dataset.name} is no longer the data set that {run.folder} was trained on: "
                f"{n_shared(trained, now):,} of {len(trained.ids):,} rows are the same",
                "Restore the data set, or name another one to score: --dataset DATASET",
            )
        return RunData(run, dataset, trained, now, own, changes(trained, now) if own else None)

    def note(self, named: bool) -> str:
        """A note for the user on how the data set differs from that of training; empty if there is nothing to say."""
        folder, name = self.run.folder, self.dataset.name
        if self.changed:
            return f"{name} has changed since {folder} was trained; its current state is used: {in_words(self.changed)}"
        if not named:
            return ""
        if not self.own:
            rows = "all of its rows are scored" if self.dataset.undivided else "its own splits are used"
            unsure = "" if self.trained else " as far as recorded"
            return f"{name} is not the data set that {folder} was trained on{unsure}: {rows}"
        return f"{name} is the data set that {folder} was trained on"

    @property
    def words(self) -> str:
        """A short description of the changes since training, for a report."""
        if not self.own:
            return "another data set"
        if self.changed is None:
            return "unknown"
        return in_words(self.changed) or "unchanged"

    def require_unseen(self, name: str, reporter: Reporter) -> None:
        """Refuse to score rows that the run was trained on; note it if that cannot be excluded.

        Raises:
            DatasetError: the split has such rows (the message says how many), or no rows at all.
        """
        split = self.dataset.split(name)
        if name == "train":
            return
        if self.trained is None:
            if self.run.config["dataset"]["fingerprints"].get(name) != split.fingerprint:
                reporter.note(
                    f"{self.run.folder} was trained by an older version that did not record its rows, "
                    f"and {name} has changed since: the run may have been trained on some of the rows of {name}"
                )
            return
        leak = find_leak(self.trained, self.now, self.dataset, name)
        if leak is None:
            return
        what = f"{leak.rows:,} of the {leak.of:,} rows of {name} are rows that {self.run.folder} was trained on"
        if not leak.certain:
            reporter.note(f"{what}, if equal names mean equal images, for example {leak.example!r}")
            return
        drawn = (
            f"{name} was drawn again, since rows were added or removed"
            if name in self.dataset.drawn
            else "They have moved to another split"
        )
        raise DatasetError(
            f"{what}, such as {leak.example!r}",
            f"{drawn}: give each row the split that it had at training, or train a new run (--out FOLDER). "
            "To score the rows of training: --split train",
        )

    @property
    def training_labels(self) -> NDArray[np.int8]:
        """The label sets of the train split, int8 [N, L]: the current ones if `own`, else those at training."""
        if self.own or self.trained is None:
            return self.dataset.split("train").labels
        return self.trained.splits["train"].labels

    def to_json(self) -> dict[str, Any] | None:
        """The changes since training, by split; None if they are unknown, or for another data set."""
        return None if self.changed is None else {name: change.to_json() for name, change in self.changed.items()}


def open_run_data(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> tuple[Project, RunData]:
    """Open a run's backbone with its data set or another one, and note what has changed since training.

    Args:
        run: the run.
        run_workspace: the data set to open, and new places of what has moved.
        weights: path of the weights' file; None for the recorded one.
        machine: the device and the limits.
        reporter: takes notes.

    Raises:
        CheckpointError: the weights differ from those of training.
        DatasetError: the data set is missing, has none of the run's labels, or has features instead of images or the
            other way round.
    """
    row = None if run.has_features else find_backbone(run.facts["backbone"])
    features = run_workspace.features_dir or (
        Path(run.config["features_dir"]) if run_workspace.data_dir is None else None
    )
    workspace = Workspace(run_workspace.data_dir or Path(run.config["data_dir"]), run_workspace.runs_dir, features)
    located = None if row is None else run.weights(row, weights)
    named = run_workspace.dataset is not None
    source = replace(run.source(), dataset=run_workspace.dataset or run.source().dataset)
    dataset = _load(run, source, workspace, named, reporter)
    data = RunData.of(run, dataset, named)
    if not data.own:
        dataset = undivided(dataset)
        data = replace(data, dataset=dataset, now=Rows.of(dataset))
    if note := data.note(named):
        reporter.note(note)
    extraction = ExtractConfig(draft=run.draft)
    project = open_project(
        workspace, source, machine, reporter, located, run.spatial, dataset=data.dataset, extraction=extraction
    )
    return project, data


def project_of_run(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> Project:
    """Open only the project; arguments and errors as in `open_run_data`."""
    return open_run_data(run, run_workspace, weights, machine, reporter)[0]


def _load(run: Run, source: Source, workspace: Workspace, named: bool, reporter: Reporter) -> Dataset:
    """Load the data set and align its labels to the run's."""
    try:
        draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
        dataset = registry.load(source.dataset, workspace.data_dir, draw, reporter)
    except DatasetError as error:
        if named or source.dataset in registry.DATASETS or Path(source.dataset).exists():
            raise
        raise DatasetError(
            f"{error.what}, which {run.folder} was trained on", "Put it back, or name its new place: --dataset NEW"
        ) from error
    _require_same_kind(run, dataset)
    dataset, notes = aligned(dataset, run.space, f"the run {run.folder.name}")
    for note in notes:
        reporter.note(note)
    return dataset


def _require_same_kind(run: Run, dataset: Dataset) -> None:
    """Refuse images for a run on ready features, ready features for a run on images, and features of another width.

    Raises:
        DatasetError: the message names both kinds.
    """
    features = dataset.splits["train"].features
    kind = "images" if features is None else f"ready features, {features.shape[1]} a row"
    trained_kind = f"ready features, {run.facts['feature_dim']} a row" if run.has_features else "images"
    if kind != trained_kind:
        raise DatasetError(
            f"{run.folder} was trained on {trained_kind}, but {dataset.name} has {kind}",
            "Name a data set of the same kind, or another run.",
        )
