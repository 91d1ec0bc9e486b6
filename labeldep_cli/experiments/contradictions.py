"""Rows with the same image, or the same ready features, whose annotations differ: certain mistakes."""

from __future__ import annotations

import numpy as np

from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.experiments.audit_record import Contradiction
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.rows import rows_of


def contradictions(project: Project) -> tuple[Contradiction, ...]:
    """Find identical rows of a project whose labels differ; images that no command has read are not compared.

    Returns:
        A group for each content, in the order of its first row.
    """
    dataset, rows = project.dataset, rows_of(project)
    names = SPLITS[-1:] if dataset.undivided else SPLITS  # there each split is all rows
    paths = [path for name in names for path in dataset.splits[name].paths]
    labels = np.concatenate([dataset.splits[name].labels for name in names])
    contents = np.concatenate([rows.splits[name].ids.contents for name in names])
    _, inverse, counts = np.unique(contents, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero((counts[inverse] > 1) & (contents != 0))
    groups: dict[int, list[int]] = {}
    for row in repeated:
        groups.setdefault(int(inverse[row]), []).append(int(row))
    found = []
    for members in groups.values():
        differs = (labels[members] > 0).any(axis=0) & (labels[members] == 0).any(axis=0)
        if differs.any():
            found.append(Contradiction(tuple(paths[row] for row in members), dataset.space.decode(differs)))
    return tuple(found)
