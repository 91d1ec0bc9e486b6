"""`labeldep features`: the stores, and what of them can go."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from labeldep_cli.config import Machine, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.errors import DatasetError, LabeldepError
from labeldep_cli.features.cleaning import (
    NOTHING_KNOWN,
    FeatureRemoval,
    KnownImages,
    StoreSummary,
    find_removals,
    known_images,
    old_files,
    remove,
    summarise,
)
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.decode import identify
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.progress import Reporter


def list_stores(workspace: Workspace) -> list[StoreSummary]:
    """The stores, by name; no feature is read."""
    return [summarise(store) for store in FeatureStore.all_in(workspace.features)]


@dataclass(frozen=True)
class Cleaning:
    """What can go.

    Attributes:
        removals: of which stores.
        images: those that files hold, and those that are gone.
    """

    removals: tuple[FeatureRemoval, ...]
    images: KnownImages

    def remove(self, reporter: Reporter) -> list[FeatureRemoval]:
        """Remove it, but for stores that a process writes, which is said.

        Returns:
            What was removed.
        """
        gone = []
        for removal in self.removals:
            if removal.in_use:
                continue
            try:
                remove(removal, self.images)
            except LabeldepError as error:
                reporter.note(f"{removal.store.folder} stays: {error.what}")
                continue
            gone.append(removal)
            reporter.note(f"removed: {removal.store.folder}: {removal.why}")
        return gone


def find_cleaning(
    workspace: Workspace, stores: Iterable[str], datasets: Iterable[str], machine: Machine, reporter: Reporter
) -> Cleaning:
    """What can go; nothing is touched.

    Args:
        workspace: where the stores lie.
        stores: names of stores that go, whatever lies in them; the others are not looked at then.
        datasets: whose files are looked for first, so that images which have moved are known to be here.
        machine: to read files with.
        reporter: takes notes and progress.

    Raises:
        LabeldepError: no such store or data set.
    """
    known = KnownFiles(workspace.features)
    for name in datasets:
        _recognise(name, workspace, known, machine, reporter)
    named = tuple(stores)
    images = NOTHING_KNOWN if named else known_images(known, machine.n_workers, reporter)
    removals = find_removals(workspace.features, named, images, reporter)
    for path in old_files(workspace.features):
        reporter.note(f"{path} is of a format that is no longer read: rm {shlex.quote(str(path))}")
    return Cleaning(tuple(removals), images)


def _recognise(name: str, workspace: Workspace, known: KnownFiles, machine: Machine, reporter: Reporter) -> None:
    """Read those files of a data set that are not known."""
    draw = Draw(Source.val_fraction, Source.test_fraction, Source.split_seed)
    dataset = registry.load(name, workspace.data_dir, draw, reporter)
    if dataset.has_features:
        raise DatasetError(f"{name} holds ready features, no images", "Leave it out.")
    for split in dataset.splits.values():
        unknown = SplitFiles.of(split, known).unknown
        if not len(unknown):
            continue
        with reporter.bar(f"recognising {split.name} images", len(unknown), "images") as bar:
            identities = identify([split.file(int(row)) for row in unknown], machine.n_workers, bar)
        known.remember([identity for identity in identities if identity is not None])
