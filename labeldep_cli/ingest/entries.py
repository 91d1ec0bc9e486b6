"""Images as a foreign source describes them, and how they become rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import import_again
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.naming import NamesOf, of_labels, settled
from labeldep_cli.ingest.words import some


@dataclass(frozen=True)
class Entry:
    """An image as a foreign source describes it.

    Attributes:
        path: of the image; absolute, or relative to the root of the source.
        values: the labels that the source speaks of: 1 present, 0 absent, -1 unknown.
        unsaid: the value of all other labels: 0, or -1 if the source leaves it open whether they are absent.
        split: train, val or test; None if the source does not say.
        group: its patient, video or burst; None if the source does not say.
        fold: its fold, counted from 0; None if the source does not say.
    """

    path: str
    values: Mapping[str, int]
    unsaid: int = 0
    split: str | None = None
    group: str | None = None
    fold: int | None = None


@dataclass
class Reading:
    """What was read of a source so far.

    Attributes:
        source: the file or folder.
        config: how it is read.
        entries: its images.
        understood: sentences for the user to check.
        declared: labels in the order in which the source lists them; labels that it does not list come after them.
        separator: what the names in a cell were separated at; empty if the source has lists.
        names: where the names of labels stand: in lists, each alone in a cell, or above columns.
        ignored: keys and columns of the source that were not read.
        broken: what could not be read, each with its place. Only `--drop-broken` gets past the first.
        moved: the images that were found under another path than the written one.
    """

    source: Path
    config: ImportConfig
    entries: list[Entry] = field(default_factory=list)
    understood: list[str] = field(default_factory=list)
    declared: list[str] = field(default_factory=list)
    separator: str = ""
    names: NamesOf = "lists"
    ignored: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)

    def finder(self, folders: Sequence[Path], searched: Path | None = None) -> ImageFinder:
        """Finds the images of this source; what it finds under another path is told in the end. See `ImageFinder`."""
        return ImageFinder(self.config, folders, searched, self.moved)

    def drop(self, what: str, remedy: str = "Correct it") -> None:
        """Leave out something that cannot be read.

        Args:
            what: its place and what is wrong, for the message.
            remedy: how to mend it, without a full stop.

        Raises:
            DatasetError: `--drop-broken` was not given.
        """
        if not self.config.drop_broken:
            line = import_again(self.source, self.config, drop_broken=True)
            raise DatasetError(what, f"{remedy}, or leave out all such entries:\n{line}")
        self.broken.append(what)

    def finish(self, root: Path, images: Iterator[tuple[str, bytes]] | None = None) -> Foreign:
        """The source as it was understood.

        Args:
            root: the folder that relative paths start from.
            images: names and bytes of images that the source has within itself.

        Raises:
            DatasetError: there are no images or no labels; an image is listed twice with different labels; or names
                of labels are in doubt.
        """
        if self.broken:
            self.understood.append(f"left out: {some(self.broken)}")
        if self.moved:
            written, place = next(iter(self.moved.items()))
            self.understood.append(f"images found under other paths: {len(self.moved)}, such as {written!r} as {place}")
        values = [entry.values for entry in self.entries]
        meaning = settled(self.source, self.config, values, self.separator, self.names)
        self.declared = [label for name in self.declared for label in meaning.get(name, (name,))]
        entries = self._once_each([replace(entry, values=of_labels(entry.values, meaning)) for entry in self.entries])
        if not entries:
            raise DatasetError(f"{self.source} has no labelled images", "Check that it is the right file or folder.")
        names = self._names(entries)
        rows = Rows(
            [entry.path for entry in entries],
            _matrix(entries, names),
            names,
            self._splits(entries),
            groups=self._of_all(entries, "group"),
            folds=self._of_all(entries, "fold"),
            ignored=tuple(dict.fromkeys((*self.ignored, *self.config.ignore_columns))),
        )
        return Foreign(rows, root, tuple(self.understood), images)

    def _once_each(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries without repetitions; those of an image that contradict each other are broken."""
        by_path: dict[str, list[Entry]] = {}
        for entry in entries:
            by_path.setdefault(entry.path, []).append(entry)
        repeated = [path for path, group in by_path.items() if len(group) > 1 and all(e == group[0] for e in group)]
        if repeated:
            self.understood.append(f"listed more than once with the same labels, taken once: {some(repeated)}")
        opposed = [path for path, group in by_path.items() if any(e != group[0] for e in group)]
        for path in opposed:
            self.drop(f"{self.source}: {path!r} is listed more than once, with different labels or splits")
        if opposed:
            self.understood.append(f"listed with different labels or splits, left out: {some(opposed)}")
        return [group[0] for path, group in by_path.items() if path not in set(opposed)]

    def _names(self, entries: Sequence[Entry]) -> list[str]:
        """The labels that some image has: first the declared ones, then the others by name."""
        left_out = set(self.config.ignore_columns)
        counts = Counter(name for entry in entries for name, value in entry.values.items() if value == 1)
        occurring = {name for entry in entries for name in entry.values}
        known = list(dict.fromkeys((*self.declared, *sorted(occurring - set(self.declared)))))
        unused = [name for name in known if not counts[name] and name not in left_out]
        if unused:
            self.understood.append(f"labels on no image, left out: {some(unused)}")
        names = [name for name in known if counts[name] and name not in left_out]
        if not names:
            raise DatasetError(
                f"{self.source}: no image has a label", "Check that it is the file with the annotations."
            )
        return names

    def _splits(self, entries: Sequence[Entry]) -> list[str] | None:
        """The split of each entry; None if there are none, or only one that cannot be trained on."""
        counts = Counter(entry.split for entry in entries)
        if set(counts) == {None}:
            return None
        if None in counts:
            example = next(entry.path for entry in entries if entry.split is None)
            raise DatasetError(
                f"{self.source}: {counts[None]} of {len(entries)} images have no split, such as {example!r}",
                "Give every image a split, or none.",
            )
        if "train" not in counts:
            self.understood.append(
                f"all images are in {' or '.join(sorted(map(str, counts)))} and none in train: splits are not kept"
            )
            return None
        return [str(entry.split) for entry in entries]

    def _of_all(self, entries: Sequence[Entry], key: str) -> list[Any] | None:
        """The groups or folds of all entries; None if an entry has none."""
        values = [getattr(entry, key) for entry in entries]
        if None in values and any(value is not None for value in values):
            missing = values.count(None)
            raise DatasetError(
                f"{self.source}: {missing} of {len(values)} images have no {key}, such as "
                f"{entries[values.index(None)].path!r}",
                f"Give every image a {key}, or none.",
            )
        return None if None in values else values


def _matrix(entries: Sequence[Entry], names: Sequence[str]) -> NDArray[np.int8]:
    """Labels int8 [N, L] of entries."""
    column_of = {name: column for column, name in enumerate(names)}
    y = np.empty((len(entries), len(names)), dtype=np.int8)
    for row, entry in enumerate(entries):
        y[row] = entry.unsaid
        for name, value in entry.values.items():
            if name in column_of:
                y[row, column_of[name]] = value
    return y
