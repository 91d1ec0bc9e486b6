"""`labeldep extract`: compute and cache the frozen backbone's features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from labeldep_cli.config import ExtractConfig, Machine, Source, Workspace
from labeldep_cli.datasets.split import SPLITS, Skipped
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.gpu_decode import require_nvjpeg
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.features import ensure_features, views_in_use
from labeldep_cli.projects.open import open_project


@dataclass(frozen=True)
class CacheFile:
    """The features of a split.

    Attributes:
        path: where they are stored.
        split: train, val or test.
        rows: number of rows.
        views: number of views per image.
        width: width of a feature vector.
        regions: regions per image; 1 for pooled features.
        computed: number of images that this call encoded.
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
    """The result of `extract`.

    Attributes:
        files: one entry per split.
        skipped: rows without features, with the reason.
        images_per_second: without start-up time; None if too few images, or none, were computed.
    """

    files: tuple[CacheFile, ...]
    skipped: tuple[Skipped, ...]
    images_per_second: float | None

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
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
    """Cache the features of one split, or of all splits.

    Only the train split gets all 21 views. The others are always used with the test transform.

    Args:
        workspace, source, machine: data, backbone and machine.
        config: views, regions, precision and batch size.
        split: one split; None for all that are not empty.
        fresh: compute all features again.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: a problem with the data, the weights, the disk or an existing cache.
    """
    project = open_project(workspace, source, machine, reporter, spatial=config.spatial, extraction=config)
    _ = project.images
    _require_possible(config, project.device)
    if fresh and split is None:
        project = project.without_store_settings()
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


def _require_possible(extraction: ExtractConfig, device: torch.device) -> None:
    """Refuse flags that exclude each other, and the user's `--decode gpu` on a device that does not decode.

    Raises:
        LabeldepError: names both.
    """
    if extraction.engine == "onnxruntime" and extraction.compile:
        raise LabeldepError("--compile is for torch, and --engine onnxruntime is not", "Leave one of them out.")
    if extraction.decode == "gpu" and extraction.draft:
        raise LabeldepError("--draft is for decoding by the CPU, and --decode gpu is not", "Leave one of them out.")
    if extraction.decode == "gpu":
        require_nvjpeg(device)
