"""The project that a run was trained on, opened again; or another data set for it to score."""

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
    """The data that a run scores, and what they have to do with those that it was trained on.

    Attributes:
        run: the run.
        dataset: as it is now, with the run's labels.
        trained, now: the rows and labels of then and of now; `trained` is None where the run does not say.
        own: it is the data set that the run was trained on, in whatever state and wherever it lies.
        changed: what has changed since, by split; None where nobody knows, and of another data set.
    """

    run: Run
    dataset: Dataset
    trained: Rows | None
    now: Rows
    own: bool
    changed: Mapping[str, SplitChange] | None

    @staticmethod
    def of(run: Run, dataset: Dataset, named: bool) -> RunData:
        """Compare a data set with the run's own.

        Args:
            run: the run.
            dataset: with the run's labels.
            named: the user has named it, so that it may be another one.

        Raises:
            DatasetError: nobody named it, and it is another one.
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
                f"{dataset.name} is no longer what {run.folder} was trained on: "
                f"{n_shared(trained, now):,} of its {len(trained.ids):,} rows are there",
                "Put the data set back, or say that another one is to be scored: --dataset DATASET",
            )
        return RunData(run, dataset, trained, now, own, changes(trained, now) if own else None)

    def note(self, named: bool) -> str:
        """What the user should know of the data set before anything is scored; empty where there is nothing."""
        folder, name = self.run.folder, self.dataset.name
        if self.changed:
            return f"{name} has changed since {folder} was trained, and is taken as it is now: {in_words(self.changed)}"
        if not named:
            return ""
        if not self.own:
            rows = "all of its rows are scored" if self.dataset.undivided else "its own splits are taken"
            sure = "" if self.trained else ", as far as it says"
            return f"{name} is not the data set that {folder} was trained on{sure}: {rows}"
        return f"{name} is the data set that {folder} was trained on"

    @property
    def words(self) -> str:
        """What has changed since the run was trained, in a few words."""
        if not self.own:
            return "another data set"
        if self.changed is None:
            return "not known"
        return in_words(self.changed) or "unchanged"

    def require_unseen(self, name: str, reporter: Reporter) -> None:
        """Refuse to score rows that the run was trained on; say so where that cannot be excluded.

        Raises:
            DatasetError: the split holds such rows, or none at all; it names how many.
        """
        split = self.dataset.split(name)
        if name == "train":
            return
        if self.trained is None:
            if self.run.config["dataset"]["fingerprints"].get(name) != split.fingerprint:
                reporter.note(
                    f"{self.run.folder} does not say which rows it was trained on, as runs of older versions do not, "
                    f"and {name} has changed since: it may have been trained on some of its rows"
                )
            return
        leak = find_leak(self.trained, self.now, self.dataset, name)
        if leak is None:
            return
        what = f"{leak.rows:,} of the {leak.of:,} rows of {name} are rows that {self.run.folder} was trained on"
        if not leak.certain:
            reporter.note(f"{what}, if the same names are the same images; for example {leak.example!r}")
            return
        drawn = f"{name} was drawn anew, since rows came or went" if name in self.dataset.drawn else "They have moved"
        raise DatasetError(
            f"{what}, such as {leak.example!r}",
            f"{drawn}: name the split of each row in the data set as it was then, or train a new run (--out FOLDER). "
            "What a run was trained on can be scored as such: --split train",
        )

    @property
    def training_labels(self) -> NDArray[np.int8]:
        """The label sets that the run could learn from, int8 [N, L]: as they are now, where the data set is its own."""
        if self.own or self.trained is None:
            return self.dataset.split("train").labels
        return self.trained.splits["train"].labels

    def to_json(self) -> dict[str, Any] | None:
        """What has changed, by split; None where nobody knows, and of another data set."""
        return None if self.changed is None else {name: change.to_json() for name, change in self.changed.items()}


def open_run_data(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> tuple[Project, RunData]:
    """Open a run's backbone and its data set again, or another one; say what has changed.

    Args:
        run: the run.
        run_workspace: which data, and where they lie now.
        weights: a path in place of the recorded one; None for that.
        machine: to compute on.
        reporter: takes notes.

    Raises:
        CheckpointError: the weights are not the run's.
        DatasetError: the data set is missing, has none of the run's labels or is of another kind.
    """
    row = None if run.has_features else find_backbone(run.facts["backbone"])
    features = run_workspace.features_dir or (
        Path(run.config["features_dir"]) if run_workspace.data_dir is None else None
    )
    workspace = Workspace(run_workspace.data_dir or Path(run.config["data_dir"]), run_workspace.runs_dir, features)
    found = None if row is None else run.weights(row, weights)
    named = run_workspace.dataset is not None
    source = replace(run.source(), dataset=run_workspace.dataset or run.source().dataset)
    dataset = _load(run, source, workspace, named, reporter)
    data = RunData.of(run, dataset, named)
    if not data.own:
        alone = undivided(dataset)
        data = replace(data, dataset=alone, now=Rows.of(alone))
    if note := data.note(named):
        reporter.note(note)
    extraction = ExtractConfig(draft=run.draft)
    project = open_project(
        workspace, source, machine, reporter, found, run.spatial, dataset=data.dataset, extraction=extraction
    )
    return project, data


def project_of_run(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> Project:
    """The project alone; arguments and errors as of `open_run_data`."""
    return open_run_data(run, run_workspace, weights, machine, reporter)[0]


def _load(run: Run, source: Source, workspace: Workspace, named: bool, reporter: Reporter) -> Dataset:
    """The data set, with the run's labels."""
    try:
        draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
        dataset = registry.load(source.dataset, workspace.data_dir, draw, reporter)
    except DatasetError as error:
        if named or source.dataset in registry.DATASETS or Path(source.dataset).exists():
            raise
        raise DatasetError(
            f"{error.what}, which {run.folder} was trained on", "Put it back, or say where it lies now: --dataset NEW"
        ) from error
    _require_same_kind(run, dataset)
    dataset, notes = aligned(dataset, run.space, f"the run {run.folder.name}")
    for note in notes:
        reporter.note(note)
    return dataset


def _require_same_kind(run: Run, dataset: Dataset) -> None:
    """Refuse images for a run on ready features, the other way round, and features of another width.

    Raises:
        DatasetError: names both sides.
    """
    features = dataset.splits["train"].features
    kind = "images" if features is None else f"ready features, {features.shape[1]} a row"
    mine = f"ready features, {run.facts['feature_dim']} a row" if run.has_features else "images"
    if kind != mine:
        raise DatasetError(
            f"{run.folder} was trained on {mine}, and {dataset.name} holds {kind}",
            "Name a data set of the same kind, or another run.",
        )
