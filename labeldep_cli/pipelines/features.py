"""`labeldep features`: the stores of cached features, and which of their features can be removed."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from labeldep_cli.config import Machine, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.errors import DatasetError, LabeldepError
from labeldep_cli.features.cleaning import (
    FeatureRemoval,
    StoreSummary,
    find_removals,
    forget_replaced,
    old_files,
    remove,
    summarise,
)
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.decode import identify
from labeldep_cli.features.known_images import NOTHING_KNOWN, KnownImages, known_images
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.progress import Reporter


def list_stores(workspace: Workspace) -> list[StoreSummary]:
    """Summaries of the stores, by name; no features are read."""
    return [summarise(store) for store in FeatureStore.all_in(workspace.features)]


@dataclass(frozen=True)
class Cleaning:
    """What can be removed.

    Attributes:
        removals: the features to remove, one entry per store.
        images: the images that files still have, and those that no file has.
        known: the record of files that were read.
    """

    removals: tuple[FeatureRemoval, ...]
    images: KnownImages
    known: KnownFiles

    def remove(self, reporter: Reporter) -> list[FeatureRemoval]:
        """Remove the features, except in stores that are in use; notes say what happened.

        Files that were read since `find_cleaning`, by whatever process, keep the features of their images.

        Returns:
            What was removed, by store.
        """
        removed = []
        for removal in self.removals:
            if removal.in_use:
                continue
            folder = removal.store.folder
            try:
                done = remove(removal, self.images, self.known)
            except LabeldepError as error:
                reporter.note(f"kept: {folder}: {error.what}")
                continue
            if done is None:
                reporter.note(f"kept: {folder}: its images are in files again")
                continue
            removed.append(done)
            reporter.note(f"removed: {folder}: {done.why}")
        self.images.remember(self.known)
        forget_replaced(self.known.path.parent, self.known)
        return removed


def find_cleaning(
    workspace: Workspace, stores: Iterable[str], datasets: Iterable[str], machine: Machine, reporter: Reporter
) -> Cleaning:
    """Find what can be removed. Nothing is changed, but that the files of `datasets` are recorded as known.

    Args:
        workspace: the folder of the stores.
        stores: names of stores to remove with all their features. If there are any, other stores are not examined.
        datasets: data sets whose image files are identified first, so that features of moved images are kept.
        machine: the number of processes that read files.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: there is no such store or data set.
    """
    known = KnownFiles(workspace.features)
    for name in datasets:
        _recognise(name, workspace, known, machine, reporter)
    named = tuple(stores)
    images = NOTHING_KNOWN if named else known_images(known, machine.n_workers, reporter)
    removals = find_removals(workspace.features, named, images, reporter)
    for path in old_files(workspace.features):
        reporter.note(f"{path} has an old format that is no longer read: rm {shlex.quote(str(path))}")
    return Cleaning(tuple(removals), images, known)


def _recognise(name: str, workspace: Workspace, known: KnownFiles, machine: Machine, reporter: Reporter) -> None:
    """Identify the image files of a data set that are not known yet, by their content."""
    dataset = registry.load_source(Source(name), workspace.data_dir, reporter)
    if dataset.has_features:
        raise DatasetError(f"{name} holds ready features, no images", "Leave it out.")
    for split in dataset.splits.values():
        unknown = SplitFiles.of(split, known).unknown
        if not len(unknown):
            continue
        with reporter.bar(f"identifying {split.name} images", len(unknown), "images") as bar:
            identities = identify([split.file(int(row)) for row in unknown], machine.n_workers, bar)
        known.remember([identity for identity in identities if identity is not None])
