"""The rows of an open project, identified by name and content; and projects with some of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import SPLITS, Dataset
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.projects.features import recognise
from labeldep_cli.projects.findings import Findings
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.rows import Rows

CHEAP = 1000
"""Full mode reads up to this number of unknown files to identify their images; more are known by their names alone."""


def rows_of(project: Project) -> Rows:
    """The rows of a project's data set; the contents of images that no command has read are unknown."""
    if project.dataset.has_features:
        return Rows.of(project.dataset)
    return Rows.of(project.dataset, {name: _numbers(project.files(name)) for name in SPLITS})


def _numbers(files: SplitFiles) -> NDArray[np.int64]:
    """The first 8 bytes of each image's SHA-256, int64 [N]; 0 if it is unknown."""
    octets = np.ascontiguousarray(files.contents).view(np.uint8).reshape(len(files.contents), CONTENT.itemsize)
    return np.ascontiguousarray(octets[:, :8]).view("<i8").reshape(-1).astype(np.int64)


def identify_images(project: Project, full: bool, names: Sequence[str] = SPLITS) -> None:
    """Read the files of images that are not known yet, so that they are recognised by their content.

    In full mode many unknown files are not read. A note then says that rows are recognised by name.

    Args:
        project: the data set.
        full: whether this is for a run in full mode.
        names: names of the splits.
    """
    if project.dataset.has_features:
        return
    if project.world.first:
        unknown = sum(len(project.files(name).unknown) for name in names)
        if full and unknown > CHEAP:
            project.reporter.note(
                f"{unknown:,} images of {project.dataset.name} have not been read yet: their rows are recognised by "
                "name, not by content"
            )
        else:
            for name in names:
                recognise(project, project.dataset.splits[name], always=True)
    for name, files in project.world.broadcast(dict(project.findings.files)).items():
        project.keep_files(name, files)


def with_all_rows(project: Project, dataset: Dataset) -> Project:
    """The project with its data set joined by `undivided`; what is known of its files is kept."""
    if dataset is project.dataset:
        return project
    if dataset.has_features:
        return replace(project, dataset=dataset)
    parts = [project.files(name) for name in SPLITS]
    paths = [path for name in SPLITS for path in project.dataset.splits[name].paths]
    place = {path: row for row, path in enumerate(paths)}
    order = np.array([place[path] for path in dataset.splits["test"].paths], np.int64)
    files = SplitFiles(*(np.concatenate([getattr(part, key) for part in parts])[order] for key in _PER_ROW))
    findings = Findings({"all": files}, first_extraction=project.findings.first_extraction)
    return replace(project, dataset=dataset, findings=findings)


def with_rows(project: Project, name: str, keep: NDArray[np.bool_]) -> Project:
    """The project with some rows of a split, `keep` bool [N]; an undivided data set has these rows in all splits."""
    dataset, rows = project.dataset, np.flatnonzero(keep)
    names = SPLITS if dataset.undivided else (name,)
    part = dataset.splits[name].subset(name, rows)
    splits = {**dataset.splits, **{split: replace(part, name=split) for split in names}}
    known = dict(project.findings.files)
    for key in {*names, "all"} & set(known):
        known[key] = SplitFiles(*(getattr(known[key], field)[rows] for field in _PER_ROW))
    findings = Findings(known, first_extraction=project.findings.first_extraction)
    return replace(project, dataset=replace(dataset, splits=splits), findings=findings)


_PER_ROW = ("contents", "exists")
