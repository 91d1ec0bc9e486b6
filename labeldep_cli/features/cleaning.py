"""`labeldep features`: summaries of the stores, and removal of features whose images are in no file on this disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.errors import CacheError, nearest
from labeldep_cli.features.known_images import KnownImages
from labeldep_cli.features.store.clean import (
    LOCK,
    clear_leftovers,
    leftovers,
    remove_rows,
    remove_store,
    unneeded_rows,
)
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.files import lock, locked
from labeldep_cli.progress import Reporter


@dataclass(frozen=True)
class StoreSummary:
    """A summary of a store.

    Attributes:
        folder: folder of the store.
        kind: what its features depend on.
        images: number of images with features of the test view.
        crops: number of images with features of the 20 crops.
        bytes: size of all its files.
        last_used: when one of its segments was last read or written, if the file system records it.
        in_use: whether a process is writing it.
        broken: what is wrong with it; empty if nothing is.
    """

    folder: Path
    kind: FeatureKind
    images: int
    crops: int
    bytes: int
    last_used: datetime | None
    in_use: bool
    broken: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON."""
        return {
            "store": str(self.folder),
            **vars(self.kind),
            "images": self.images,
            "crops": self.crops,
            "bytes": self.bytes,
            "last_used": self.last_used and self.last_used.isoformat(),
            "in_use": self.in_use,
            "broken": self.broken or None,
        }


def summarise(store: FeatureStore) -> StoreSummary:
    """Summarise a store without reading its features."""
    files = [path.stat() for path in store.folder.iterdir() if path.is_file()]
    times = [path.stat() for path in store.folder.glob("*.h5")]
    used = max((max(one.st_mtime, one.st_atime) for one in times), default=None)
    images = crops = 0
    broken = ""
    try:
        images, crops = (len(contents_of(store, (part,))) for part in ("test", "crops"))
    except CacheError as error:
        broken = error.what
    return StoreSummary(
        store.folder,
        store.kind,
        images,
        crops,
        sum(one.st_size for one in files),
        None if used is None else datetime.fromtimestamp(used, timezone.utc),
        locked(store.folder / LOCK),
        broken,
    )


def contents_of(store: FeatureStore, parts: Sequence[Any] = ("test", "crops")) -> NDArray[np.bytes_]:
    """The images of a store, CONTENT [n], ascending, each once.

    Raises:
        CacheError: a segment is broken.
    """
    segments = [segment.contents for part in parts for segment in store.segments(part)]
    return np.unique(np.concatenate([np.empty(0, CONTENT), *segments]))


@dataclass(frozen=True)
class FeatureRemoval:
    """What can be removed from a store.

    Attributes:
        store: the store.
        why: the reason, in a few words.
        images: number of images that lose their features.
        bytes: approximate disk space that becomes free.
        in_use: whether a process is writing the store; nothing is removed then.
        all: whether the complete store is removed.
    """

    store: FeatureStore
    why: str
    images: int
    bytes: int
    in_use: bool
    all: bool = False

    def to_json(self) -> dict[str, Any]:
        """The fields, as JSON."""
        return {
            "store": str(self.store.folder),
            "why": self.why,
            "images": self.images,
            "bytes": self.bytes,
            "in_use": self.in_use,
        }


def find_removals(folder: Path, named: Sequence[str], images: KnownImages, reporter: Reporter) -> list[FeatureRemoval]:
    """Find what can be removed from each store. Nothing is changed.

    Args:
        folder: folder of the stores.
        named: names of stores to remove completely; other stores are then ignored.
        images: which images exist and which are gone. Other images stay, because their files are not remembered.
        reporter: receives notes on broken stores, and on images whose files are not remembered.

    Raises:
        CacheError: there is no store of such a name.
    """
    stores = FeatureStore.all_in(folder)
    if named:
        return [_named(name, stores, folder) for name in dict.fromkeys(named)]
    removals = []
    for store in stores:
        try:
            removal = _removal(store, images.gone, locked(store.folder / LOCK))
            forgotten = ~np.isin(contents_of(store), np.concatenate([images.here, images.gone]))
        except CacheError as error:
            reporter.note(f"{error.what}: the store stays as it is. {error.remedy}")
            continue
        if forgotten.any():
            reporter.note(
                f"{store.folder}: {int(forgotten.sum())} images are of files that labeldep does not remember: they stay"
            )
        if removal is not None:
            removals.append(removal)
    return removals


def _named(name: str, stores: Sequence[FeatureStore], folder: Path) -> FeatureRemoval:
    by_name = {store.folder.name: store for store in stores}
    store = by_name.get(Path(name).name)
    if store is None or Path(name) not in (Path(store.folder.name), store.folder):
        raise CacheError(
            f"there is no store {name!r} in {folder}", nearest(name, by_name) if by_name else "See: labeldep features"
        )
    summary = summarise(store)
    return FeatureRemoval(store, "named", summary.images, summary.bytes, summary.in_use, all=True)


def _removal(store: FeatureStore, gone: NDArray[np.bytes_], in_use: bool) -> FeatureRemoval | None:
    rows, left = unneeded_rows(store, gone), leftovers(store)
    why = [
        *([f"{rows.images:,} images whose files are gone"] if rows.images else []),
        *([f"{rows.again:,} rows that were computed again"] if rows.again else []),
        *(["left by a kill (complete rows are kept)"] if left else []),
    ]
    if not why and not list(store.folder.glob("*.h5")):
        return FeatureRemoval(store, "empty", 0, 0, in_use)
    size = rows.bytes + sum(path.stat().st_size for path in left)
    return FeatureRemoval(store, ", ".join(why), rows.images, size, in_use) if why else None


def remove(removal: FeatureRemoval, images: KnownImages, known: KnownFiles) -> FeatureRemoval | None:
    """Remove what `find_removals` found, except for what other processes have come to need since then.

    Returns:
        What was removed; None if all of it is needed again.

    Raises:
        StorageError: another process is writing the store; the folder is not writable, or lacks space for a segment.
        CacheError: a segment is broken.
    """
    with lock(removal.store.folder / LOCK, str(removal.store.folder)):
        if removal.all:
            remove_store(removal.store)
            return removal
        gone = images.still_gone(known)
        store = removal.store.reopened()
        current = _removal(store, gone, in_use=False)
        if current is None:
            return None
        clear_leftovers(store)
        remove_rows(store.reopened(), gone)
        if not list(store.folder.glob("*.h5")):
            remove_store(store)
    return current


def forget_replaced(folder: Path, known: KnownFiles) -> None:
    """Forget replaced images that no store has features of. Nothing is forgotten while a store is in use or broken."""
    stores = FeatureStore.all_in(folder)
    if any(locked(store.folder / LOCK) or leftovers(store) for store in stores):
        return
    try:
        stored = np.concatenate([np.empty(0, CONTENT), *map(contents_of, stores)])
    except CacheError:
        return
    replaced = known.replaced()
    unneeded = ~np.isin(np.array(replaced, CONTENT), stored)
    known.forget_replaced(replaced[row] for row in np.flatnonzero(unneeded))


def old_files(folder: Path) -> list[Path]:
    """Feature files of older versions, recognised by their names: DATASET-BACKBONE-SPLIT.h5."""
    by_split = [folder.glob(f"*-*-{split}.h5") for split in ("train", "val", "test")]
    return sorted(path for paths in by_split for path in paths if path.is_file())
