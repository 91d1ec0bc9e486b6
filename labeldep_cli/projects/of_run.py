"""The project that a run was trained on, opened again."""

from __future__ import annotations

import shlex
from pathlib import Path

from labeldep_cli.config import ExtractConfig, Machine, RunWorkspace, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.errors import DatasetError
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.run import Run


def project_of_run(
    run: Run, run_workspace: RunWorkspace, weights: str | None, machine: Machine, reporter: Reporter
) -> Project:
    """Open a run's data set and backbone again.

    Args:
        run: the run.
        run_workspace: where its data lie now.
        weights: a path in place of the recorded one; None for that.
        machine: to compute on.
        reporter: takes notes.

    Raises:
        CheckpointError: the labels or the weights are not the run's.
    """
    row = None if run.has_features else find_backbone(run.facts["backbone"])
    features = run_workspace.features_dir or (
        Path(run.config["features_dir"]) if run_workspace.data_dir is None else None
    )
    workspace = Workspace(run_workspace.data_dir or Path(run.config["data_dir"]), run_workspace.runs_dir, features)
    found = None if row is None else run.weights(row, weights)
    extraction = ExtractConfig(draft=run.draft)
    source = run.source()
    try:
        project = open_project(workspace, source, machine, reporter, found, run.spatial, extraction=extraction)
    except DatasetError as error:
        if source.dataset in registry.DATASETS or Path(source.dataset).exists():
            raise
        raise DatasetError(
            f"{error.what}, which {run.folder} was trained on",
            f"Put it back, or make a link to where it lies now: ln -s NEW {shlex.quote(source.dataset)}",
        ) from error
    run.space.require_same(project.dataset.space, f"the run {run.folder.name}", "the data set")
    return project
