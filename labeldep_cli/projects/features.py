"""Features of an open project's splits: read from the store, and computed where they are missing."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.compute.versions import versions
from labeldep_cli.config import ExtractConfig
from labeldep_cli.datasets.missing_images import require_some_images
from labeldep_cli.datasets.split import SPLITS, Split
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.coverage import Coverage, SplitFiles
from labeldep_cli.features.decode import identify
from labeldep_cli.features.extract import ExtractionResult, Pace, extract_rows
from labeldep_cli.features.jpegs import jpegs_of
from labeldep_cli.features.store.clean import LOCK
from labeldep_cli.features.store.layout import segment_bytes
from labeldep_cli.features.store.segment import CONTENT, Part
from labeldep_cli.features.store.store import FeatureStore, require_one_shape
from labeldep_cli.features.store.write import Appender, drop_idle_locks, rescue
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.files import lock, make_folder
from labeldep_cli.projects.project import Project


@dataclass(frozen=True)
class Extracted:
    """The features of a split, and how much of them this call computed.

    Attributes:
        cache: the features.
        computed: number of images that this call encoded.
        pace: the speed of this call.
    """

    cache: FeatureCache
    computed: int
    pace: Pace


def ensure_features(
    project: Project, name: str, config: ExtractConfig, fresh: bool = False, note: str = ""
) -> Extracted:
    """The features of a split, computed where they are missing.

    Args:
        project: data, backbone and machine.
        name: name of the split.
        config: number of views, and group (images per forward pass).
        fresh: compute all features again.
        note: reported before features are computed.

    Raises:
        LabeldepError: a problem with the data, the weights, the disk or the store.
    """
    split = project.dataset.split(name)
    complete = None if fresh else project.world.broadcast(_complete(project, name, config.views))
    if complete is None:
        if note:
            project.reporter.note(note)
        return _extract(project, split, config, fresh)
    project.limit().require(split, complete.reasons, f"{project.extract_command} --fresh")
    return Extracted(complete, 0, Pace())


def _complete(project: Project, name: str, views: int) -> FeatureCache | None:
    """The features of a split, if the first process finds all of them; unknown files are read to recognise them."""
    if not project.world.first:
        return None
    cache = project.finished_cache(name, views)
    if cache is None and any(not store.empty for store in project.stores()):
        # If no store is known to hold this data set, it uses the store that holds most of its images.
        for other in SPLITS if project.existing_store() is None else (name,):
            recognise(project, project.dataset.splits[other])
        cache = project.finished_cache(name, views)
    return cache


def _extract(project: Project, split: Split, config: ExtractConfig, fresh: bool) -> Extracted:
    require_some_images(project.dataset)
    make_folder(project.workspace.features)
    if project.world.first and fresh:
        for store in project.stores():
            store.drop_broken()
    files = recognise(project, split, fresh) if project.world.first else project.files(split.name)
    files = project.world.broadcast(files)
    store = project.ensure_store()
    with lock(store.folder / LOCK, str(store.folder)) if project.world.first else nullcontext():
        if project.world.first:
            store.create()
            store.remember_weights(project.images[1].spec)
            _clear_up(project, store, split, files, fresh)
        project.world.wait()
        passes = []
        parts: tuple[Part, ...] = ("test", "crops") if config.views > 1 else ("test",)
        again = np.ones(len(split), bool) if fresh else np.zeros(len(split), bool)
        for part in parts:
            made = _extract_part(project, store.reopened(), split, files, part, config, again)
            passes.append(made)
            contents = files.contents.copy()
            contents[made.rows] = made.contents
            files = replace(files, contents=contents)
        project.keep_files(split.name, files)
        if project.world.first and fresh:
            store.reopened().drop_superseded()
        project.world.wait()
        store = store.reopened()
        coverage = Coverage.of(store, split, files, project.world.broadcast(project.unusable()))
        for made in passes:
            coverage = coverage.with_reasons(made.rows, made.reasons)
        coverage = coverage.without_files() if config.views > 1 else coverage
        project.limit().require(split, coverage.reasons)
        if project.world.first and (remedy := project.limit().range_remedy(split, coverage.reasons)):
            project.reporter.note(remedy)
    cache = coverage.cache(store.shape() or project.backbone.shape)
    paces = [made.pace for made in passes]
    return Extracted(cache, sum(pace.rows for pace in paces), Pace.in_turn(paces))


def recognise(project: Project, split: Split, fresh: bool = False, always: bool = False) -> SplitFiles:
    """Which images the rows of a split are. Unknown files are read if a store may already hold their features.

    Args:
        project: data, backbone and machine.
        split: the split.
        fresh: all features are computed again.
        always: read unknown files in any case.
    """
    files = project.files(split.name)
    unknown = files.unknown
    if project.findings.first_extraction is None:
        project.findings.first_extraction = fresh or all(store.empty for store in project.stores())
    if not len(unknown) or (project.findings.first_extraction and not always):
        return files  # unknown files are recognised when they are encoded
    project.reporter.note(f"{len(unknown)} of {len(split)} {split.name} files are new or were touched: reading them")
    with project.reporter.bar(f"recognising {split.name} images", len(unknown), "images") as bar:
        identities = identify([split.file(int(row)) for row in unknown], project.machine.n_workers, bar)
    project.known.remember([identity for identity in identities if identity is not None])
    files = files.recognised(unknown, identities)
    project.keep_files(split.name, files)
    return files


def _clear_up(project: Project, store: FeatureStore, split: Split, files: SplitFiles, fresh: bool) -> None:
    """Recover the segments that a kill left unfinished; with `fresh`, try unusable images again."""
    parts: tuple[Part, ...] = ("test", "crops")
    for part in parts:
        for partial in store.partials(part):
            rescue(partial, store.kind)
        drop_idle_locks(store.folder, part)
    if fresh:
        project.known.forget_reasons(bytes(c).ljust(CONTENT.itemsize, b"\0") for c in files.contents if c)


def _extract_part(
    project: Project,
    store: FeatureStore,
    split: Split,
    files: SplitFiles,
    part: Part,
    config: ExtractConfig,
    again: NDArray[np.bool_],
) -> ExtractionResult:
    """Compute the missing features of one part; several processes take a share each.

    Args:
        project, store: backbone, machine, and the store that receives the features.
        split, files: the rows, and which images they are.
        part: the test view or the crops.
        config: the group.
        again: bool [N], rows that are computed even if they are stored already.
    """
    world = project.world
    coverage = Coverage.of(store, split, files, world.broadcast(project.unusable()))
    rows = coverage.missing_rows(part)
    if again.any():
        rows = np.flatnonzero(again & files.exists)
    n_stored = int(coverage.locations[part].present[coverage.reasons == 0].sum())
    views = "crops" if part == "crops" else "images"
    if not len(rows):
        return ExtractionResult(rows, np.zeros(0, CONTENT), np.zeros(0, np.uint8), Pace())
    project.images_read.add(split.name)
    backbone, encoder = project.backbone, project.encoder_for(store.kind)
    require_one_shape(store, backbone.shape)
    if world.first:
        _note_old_file(project, split)
        if store.empty:
            _note_old_stores(project)
        stored_note = (
            f"{n_stored:,} of {len(split):,} {views} of {split.name} are there; "
            if n_stored and not again.any()
            else ""
        )
        size = segment_bytes(len(rows), part, backbone.shape) / 1e6
        project.reporter.note(f"{store.folder}: {stored_note}{len(rows):,} to compute, {size:.1f} MB")
    groups = -(-len(rows) // config.group)
    share = world.share(groups)
    mine = rows[share.start * config.group : share.stop * config.group]
    appender = Appender(store.folder, part, len(mine), backbone.shape, store.kind, versions())
    try:
        appender.reserve()
        with project.reporter.bar(f"extracting {split.name}", len(mine), "images") as bar:
            made = extract_rows(
                split,
                mine,
                part,
                encoder,
                appender,
                backbone.shape,
                project.known,
                coverage.reasons,
                framing=project.images[0].framing,
                group=config.group,
                workers=project.machine.n_workers,
                limit=project.limit(),
                device=project.device,
                bar=bar,
                rules=project.rules,
                jpegs=jpegs_of(store.kind.preprocessing),
                note=project.reporter.note,
            )
        appender.finish()
    finally:
        appender.abandon()
    all_made = world.gather(made)
    return ExtractionResult(
        np.concatenate([one.rows for one in all_made]),
        np.concatenate([one.contents for one in all_made]),
        np.concatenate([one.reasons for one in all_made]),
        Pace.at_once([one.pace for one in all_made]),
    )


def views_in_use(project: Project, name: str) -> int:
    """Default number of views of a split: all of them if the store has crops of any of its images, else 1."""
    store = project.existing_store()
    if store is None:
        return 1
    return N_VIEWS if store.locate(project.files(name).contents, "crops").present.any() else 1


def _note_old_file(project: Project, split: Split) -> None:
    """Report a feature file in the format used before the store: it is no longer read, and can be removed."""
    kind = "-spatial" if project.spatial else ""
    old = project.workspace.features / f"{project.name}{kind}-{split.name}.h5"
    if old.exists():
        project.reporter.note(
            f"{old} has a format that is no longer read: its features are computed again, and it can be removed"
        )


def _note_old_stores(project: Project) -> None:
    """Report stores of versions before `PixelRules`, whose preprocessing names no background."""
    row, _ = project.images
    for store in FeatureStore.all_in(project.workspace.features):
        if store.kind.backbone == row.name and f"{row.side}x{row.side}, " in store.kind.preprocessing:
            project.reporter.note(
                f"{store.folder} has features of an older version, which read transparency and more than 8 bits "
                f"otherwise: they are computed again; labeldep features clean --store {store.folder.name} removes it"
            )
