"""Opens the data set that a run was trained on, or another one to score, with the run's backbone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labeldep_cli.config import ExtractConfig, Machine, RunWorkspace, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.alignment import aligned, undivided
from labeldep_cli.datasets.folds import NoFoldsError
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import DatasetError
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.rows import identify_images, rows_of, with_all_rows
from labeldep_cli.projects.run_data import RunData
from labeldep_cli.runs.names import is_gone
from labeldep_cli.runs.rows import read_rows
from labeldep_cli.runs.run import Run


def open_run_data(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> tuple[Project, RunData]:
    """Open a run's backbone with its data set or another one, and note what has changed since training.

    If the run's own data set is gone, and the project's data set has the run's rows, it has moved there.

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
    row = None if run.has_features else run.row
    features = run_workspace.features_dir or (
        Path(run.config["features_dir"]) if run_workspace.data_dir is None else None
    )
    workspace = Workspace(run_workspace.data_dir or Path(run.config["data_dir"]), run_workspace.runs_dir, features)
    located = None if row is None else run.weights(row, weights)
    moved_to = run_workspace.scope.dataset if run_workspace.dataset is None and is_gone(run.config) else None
    new_name = run_workspace.dataset or moved_to
    named = new_name is not None
    source = replace(run.source(), dataset=new_name or run.source().dataset)
    dataset = _load(run, source, workspace, named, reporter)
    extraction = ExtractConfig.of(run.jpegs)
    project = open_project(workspace, source, machine, reporter, located, run.spatial, dataset, extraction, row)
    trained = read_rows(run.folder)
    if trained is not None and trained.ids.contents.any():
        identify_images(project, run.full)
    data = RunData.of(run, trained, dataset, rows_of(project), named)
    if moved_to and not data.own:
        raise DatasetError(
            f"the data set of {run.folder}, {run.source().dataset}, is gone, and {moved_to} is another one",
            "Put it back, or name its new place: --dataset NEW",
        )
    if not data.own:
        project = with_all_rows(project, undivided(dataset))
        data = replace(data, dataset=project.dataset, now=rows_of(project))
    if note := data.note(named):
        reporter.note(note)
    return project, data


def project_of_run(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> Project:
    """Open only the project; arguments and errors as in `open_run_data`."""
    return open_run_data(run, run_workspace, weights, machine, reporter)[0]


def _load(run: Run, source: Source, workspace: Workspace, named: bool, reporter: Reporter) -> Dataset:
    """Load the data set and align its labels to the run's. One that the user named need not have the run's folds."""
    try:
        dataset = registry.load_source(source, workspace.data_dir, reporter)
    except NoFoldsError:
        if not named:
            raise
        dataset = registry.load_source(replace(source, fold=None), workspace.data_dir, reporter)
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
