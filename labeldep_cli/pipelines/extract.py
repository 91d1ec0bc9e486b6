"""`labeldep extract`: cache the frozen backbone's features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from labeldep_cli.config import ExtractConfig, Machine, Source, Workspace
from labeldep_cli.datasets.split import SPLITS, Skipped
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.features import ensure_features, views_in_use
from labeldep_cli.projects.open import open_project


@dataclass(frozen=True)
class CacheFile:
    """A finished cache: where, which split, how large, and how many rows this call computed.

    `regions` is 1 for pooled features.
    """

    path: Path
    split: str
    rows: int
    views: int
    width: int
    regions: int
    computed: int


@dataclass(frozen=True)
class Extraction:
    """What `extract` did.

    Attributes:
        files: a cache a split.
        skipped: rows without features, and why.
        images_per_second: start-up excluded; None where nothing, or too little to tell, was computed.
    """

    files: tuple[CacheFile, ...]
    skipped: tuple[Skipped, ...]
    images_per_second: float | None

    def to_json(self) -> dict[str, Any]:
        """The keys of the contract, and `computed`."""
        return {
            "files": [{**vars(file), "path": str(file.path)} for file in self.files],
            "skipped": [skip.to_json() for skip in self.skipped],
            "images_per_second": self.images_per_second,
        }


def extract(
    workspace: Workspace,
    source: Source,
    machine: Machine,
    config: ExtractConfig,
    split: str | None,
    fresh: bool,
    reporter: Reporter,
) -> Extraction:
    """Cache the features of one split, or of all.

    Only the train split gets all 21 views: the others are only ever seen through the test transform.

    Raises:
        LabeldepError: data, weights, disk or an existing cache do not allow it.
    """
    project = open_project(workspace, source, machine, reporter, spatial=config.spatial, extraction=config)
    _ = project.images
    if fresh and split is None:
        project = project.anew()
    files: list[CacheFile] = []
    skipped: list[Skipped] = []
    images, seconds = 0, 0.0
    for name in (split,) if split else tuple(name for name in SPLITS if len(project.dataset.splits[name])):
        views = config.views if name == "train" else 1
        if views == 1 and name == "train" and not fresh:
            views = views_in_use(project, name)
        extracted = ensure_features(project, name, replace(config, views=views), fresh)
        cache = extracted.cache
        if not extracted.computed:
            reporter.note(f"{cache.path}: all {len(cache.usable):,} images of {name} that can be read are there")
        files.append(
            CacheFile(
                cache.path,
                name,
                len(cache.paths),
                cache.views,
                cache.shape[-1],
                cache.shape[0] if config.spatial else 1,
                extracted.computed,
            )
        )
        skipped += cache.skipped(project.dataset.named)
        images, seconds = images + extracted.pace.images, seconds + extracted.pace.seconds
    return Extraction(tuple(files), tuple(skipped), images / seconds if images else None)
