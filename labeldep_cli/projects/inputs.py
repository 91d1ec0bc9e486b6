"""Splits of an open project as inputs of the networks; missing features are extracted first."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.compute.shared_memory import usable_processes
from labeldep_cli.config import ExtractConfig
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.cache import FeatureCache, skipped_rows
from labeldep_cli.features.decode import unreadable
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.inputs.batches import Blocks, Inputs
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.images import ImageInputs
from labeldep_cli.inputs.streamed import StreamedInputs, blocks_within, share_memory
from labeldep_cli.projects.features import ensure_features, views_in_use
from labeldep_cli.projects.project import Project


def ensure_inputs(project: Project, name: str, full: bool, views: int | None = 1) -> Inputs:
    """A split as inputs for training or evaluation.

    Args:
        project: data, backbone and machine.
        name: name of the split.
        full: images instead of cached features.
        views: number of views to draw from; None for all: those of the cache, or every crop of an image.
    """
    return ensure_inputs_together(project, {name: views}, full)[0]


def ensure_inputs_together(
    project: Project, requested: Mapping[str, int | None], full: bool, begun: Mapping[str, Blocks] | None = None
) -> tuple[Inputs, ...]:
    """Splits that a command holds at the same time, and that share `--max-memory`.

    Args:
        project: data, backbone and machine.
        requested: name of each split -> number of views, as in `ensure_inputs`.
        full: images instead of cached features.
        begun: blocks in which splits are read without `--max-memory`; a split without an entry is held in memory.

    Raises:
        DatasetError: no image of a split can be read.
    """
    if full:
        opened: tuple[Inputs, ...] = tuple(image_inputs(project, name, v or N_VIEWS) for name, v in requested.items())
    else:
        opened = _ensure_feature_inputs(project, requested, begun or {})
    for name, inputs in zip(requested, opened, strict=True):
        if len(inputs.labels) == 0:
            raise DatasetError(
                f"the {name} split of {project.dataset.name} has no image that can be read",
                f"See: labeldep data {shlex.quote(project.source.dataset)}",
            )
    return opened


def _ensure_feature_inputs(
    project: Project, requested: Mapping[str, int | None], begun: Mapping[str, Blocks]
) -> tuple[Inputs, ...]:
    """Splits as features: ready features, or those of a cache; missing features are extracted, with a note.

    Args:
        project: data, backbone and machine.
        requested: name of each split -> number of views; None for all that the cache has.
        begun: blocks in which splits are read without `--max-memory`.
    """
    if project.dataset.has_features:
        if project.machine.max_memory is not None:
            project.reporter.note("--max-memory: ready features are in memory already, and stay there")
        return tuple(FeatureInputs.of_split(project.dataset.split(name), project.device) for name in requested)
    caches = [_ensure_held_cache(project, name, views) for name, views in requested.items()]
    counts = [views or cache.views for views, cache in zip(requested.values(), caches, strict=True)]
    blocks = [begun.get(name) for name in requested]
    if project.machine.max_memory is not None:
        rows = [(len(cache.usable), cache.row_bytes(views)) for cache, views in zip(caches, counts, strict=True)]
        budgets = share_memory(project.machine.max_memory, [n * size for n, size in rows])
        blocks = [blocks_within(memory, *each) for memory, each in zip(budgets, rows, strict=True)]
    return tuple(_held(project, *each) for each in zip(caches, counts, blocks, strict=True))


def _ensure_held_cache(project: Project, name: str, views: int | None) -> FeatureCache:
    """The features of a split. With `views` None, crops of some images in the store mean crops of all images."""
    count = views or views_in_use(project, name)
    note = f"features of {name} are missing: extracting them first"
    return ensure_features(project, name, ExtractConfig(views=count), note=note).cache


def _held(project: Project, cache: FeatureCache, views: int, blocks: Blocks | None) -> Inputs:
    if blocks is None:
        return FeatureInputs.of_cache(cache, views, project.dataset.named, project.device)
    n, size = len(cache.usable), cache.row_bytes(views)
    note = f"{blocks.description}, two pools of at most {blocks.largest(n) * size / 1e6:.1f} MB at a time"
    project.reporter.note(f"{cache.path}: {n * size / 1e6:.1f} MB of features are streamed: {note}")
    return StreamedInputs(cache, views, project.dataset.named, project.device, blocks)


def image_inputs(project: Project, name: str, views: int) -> ImageInputs:
    """A split as images. Unreadable images are known in advance, from the cache or by decoding all images once."""
    row, _ = project.images
    split = project.dataset.split(name)
    project.images_read.add(name)
    cache = project.finished_cache(name)
    reasons = _scan(project, split) if cache is None else cache.reasons
    project.limit().require(split, reasons, "" if cache is None else f"{project.extract_command} --fresh")
    return ImageInputs(
        split,
        np.flatnonzero(reasons == 0),
        skipped_rows(split.paths, reasons, project.dataset.named),
        project.encoder,
        project.backbone.feature_dim,
        row.framing,
        project.rules,
        views,
        project.machine.n_workers,
        project.device,
        project.jpegs,
        project.reporter.note,
    )


def _scan(project: Project, split: Split) -> NDArray[np.uint8]:
    rows = project.world.share(len(split))
    mine = split.subset(split.name, np.arange(rows.start, rows.stop))
    with project.reporter.bar(f"checking {split.name} images", len(mine), "images") as bar:
        workers = usable_processes(project.machine.n_workers, project.reporter.note)
        reasons = unreadable(mine.file, len(mine), project.rules, workers, bar)
    return np.concatenate(project.world.gather(reasons))
