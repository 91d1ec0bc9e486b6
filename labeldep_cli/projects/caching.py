"""Making a cache that is missing: this process's parts of it, and the whole of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from labeldep_cli.config import ExtractConfig
from labeldep_cli.datasets.split import Split
from labeldep_cli.features.cache import FeatureCache, Part, cache_bytes, join_parts, reasons_of, tidy
from labeldep_cli.features.extract import Pace, extract_split, try_unread_again
from labeldep_cli.features.origin import Origin
from labeldep_cli.features.shares import plan, shares
from labeldep_cli.files import lock, make_folder
from labeldep_cli.projects.project import Project


@dataclass(frozen=True)
class Extracted:
    """One cache file, and how much of it this call computed.

    Attributes:
        cache: the finished cache.
        computed: rows that this call wrote.
        pace: how fast.
    """

    cache: FeatureCache
    computed: int
    pace: Pace


def ensure_cache(project: Project, name: str, config: ExtractConfig, fresh: bool = False) -> Extracted:
    """The cache of a split, extracted where it is missing or unfinished.

    Args:
        project: data, backbone and machine.
        name: of the split.
        config: views and group.
        fresh: extract anew in any case.

    Raises:
        LabeldepError: data, weights, disk or cache do not allow it.
    """
    path = project.cache_path(name)
    cache = _finished(project, name, config, fresh)
    if cache is None:
        make_folder(path.parent)
        with lock(path.with_name(f".{path.stem}.lock"), str(path)) if project.world.first else nullcontext():
            cache = _finished(project, name, config, fresh)
            if cache is None:
                return _extract(project, project.dataset.split(name), path, config, fresh)
    project.limit().require(project.dataset.split(name), cache.reasons, f"{project.extract_command} --fresh")
    return Extracted(cache, 0, Pace())


def _finished(project: Project, name: str, config: ExtractConfig, fresh: bool) -> FeatureCache | None:
    """The finished cache of a split, if the first process finds one: it may be finished between two looks."""
    cache = project.finished_cache(name, config.views) if project.world.first and not fresh else None
    there = project.world.broadcast(cache is not None)
    return FeatureCache.open(project.cache_path(name), project.extract_command) if there and cache is None else cache


def _extract(project: Project, split: Split, path: Path, config: ExtractConfig, fresh: bool) -> Extracted:
    """Extract a split's features, or what is missing of them; several processes write a part each.

    Args:
        project: data, backbone and machine; the first of its processes holds the cache's lock.
        split: the rows.
        path: of the cache.
        config: views and group.
        fresh: begin anew.

    Raises:
        LabeldepError: weights, disk or an unfinished cache do not allow it; too many unreadable images.
    """
    project.looked.add(split.name)
    size = cache_bytes(split, project.backbone.shape, config.views)
    seen = f"{config.views} view{'' if config.views == 1 else 's'}"
    regions = f"{project.backbone.shape[0]} regions x " if project.spatial else ""
    shape = f"{len(split)} images x {seen} x {regions}{project.backbone.feature_dim} features"
    project.reporter.note(f"{path}: {shape}, {size / 1e6:.1f} MB")
    origin = project.origin(split, config.views, project.backbone.weights_sha256, project.encoder.compute_dtype)
    parts = plan(path, len(split), config.group, fresh, project.world, project.reporter)
    pace = _extract_parts(project, parts[project.world.rank :: project.world.size], split, origin, config, fresh)
    pace = Pace.at_once(project.world.gather(pace))
    if project.world.first:
        if len(parts) > 1:
            reasons = reasons_of(parts, project.extract_command)
            project.limit().require(split, reasons)
            join_parts(path, parts, split, reasons, project.backbone.shape, origin)
        tidy(path, parts)
    project.world.wait()
    return Extracted(FeatureCache.open(path, project.extract_command), pace.rows, pace)


def _extract_parts(
    project: Project, parts: Sequence[Part], split: Split, origin: Origin, config: ExtractConfig, fresh: bool
) -> Pace:
    """Write this process's parts of a cache, and finish them."""
    with shares(parts, split, project.backbone.shape, origin, fresh, project.extract_command) as mine:
        before = sum(project.world.gather(int(sum(share.writer.done.sum() for share in mine))))
        if before:
            project.reporter.note(f"going on after {before} rows that are there already")
        try_unread_again([share.writer for share in mine], project.limit(), len(split), project.world)
        paces = []
        with project.reporter.bar(f"extracting {split.name}", sum(len(share.split) for share in mine), "images") as bar:
            for share in mine:
                pace = extract_split(
                    share.split,
                    project.encoder,
                    share.writer,
                    side=project.images[0].side,
                    group=config.group,
                    workers=project.machine.n_workers,
                    limit=replace(project.limit(), whole=len(split)),
                    device=project.device,
                    bar=bar,
                    draft=project.draft,
                )
                share.writer.finish()
                paces.append(pace)
    return Pace.in_turn(paces)
