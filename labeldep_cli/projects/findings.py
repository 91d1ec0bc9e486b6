"""What a command has learned about the files and stores of a project."""

from __future__ import annotations

from dataclasses import dataclass, field

from labeldep_cli.config import ExtractConfig
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.store.store import FeatureStore


@dataclass
class Findings:
    """What a command has learned about a project's files and stores; shared by all variants of the project.

    Attributes:
        files: by split, which images its rows are; an undivided data set has one entry, "all".
        stores: by (spatial, extraction), the store that holds most of the images; None if no store holds any.
        first_extraction: whether all stores were empty when the command began, so that no image has to be recognised;
            None as long as this has not been checked.
    """

    files: dict[str, SplitFiles] = field(default_factory=dict)
    stores: dict[tuple[bool, ExtractConfig], FeatureStore | None] = field(default_factory=dict)
    first_extraction: bool | None = None
