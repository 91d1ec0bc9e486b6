"""Images of an open project that look the same."""

from __future__ import annotations

from labeldep_cli.datasets.twins import TwinReport
from labeldep_cli.features.near_identical import near_identical
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.projects.project import Project


def twins_in(project: Project) -> TwinReport:
    """Compare the images of which the project has features; ready features have none.

    Raises:
        DatasetError: a process that read images died, for example because memory ran out.
    """
    if project.dataset.has_features:
        return TwinReport()
    unusable = project.unusable()
    known = (bytes(content) for name in project.dataset.splits for content in project.files(name).contents)
    whole = [content and content.ljust(CONTENT.itemsize, b"\0") for content in known]
    contents = [b"" if content in unusable else content for content in whole]
    return near_identical(
        project.dataset, contents, project.known, project.rules, project.machine.n_workers, project.reporter
    )
