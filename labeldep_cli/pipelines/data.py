"""`labeldep data`: check the contents of a data set before spending hours on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeldep_cli.config import DownloadConfig, Machine, Source
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.decisions import Corrections
from labeldep_cli.datasets.label_gaps import LabelGaps
from labeldep_cli.datasets.missing_images import require_some_images
from labeldep_cli.datasets.published import compare_with_published
from labeldep_cli.datasets.split import Dataset, Skipped
from labeldep_cli.datasets.statistics import (
    Cooccurrence,
    SplitReport,
    absent_labels_of,
    constant_labels_of,
    describe,
    strongest_cooccurrences,
)
from labeldep_cli.datasets.twins import TwinReport
from labeldep_cli.experiments.critic_influence import note_reach_after
from labeldep_cli.features.check import Duplicate, duplicates_among, listed_images, read_all
from labeldep_cli.features.near_identical import compare_looks
from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.features.pixels import PixelReport
from labeldep_cli.features.reasons import ABSENT, Reason
from labeldep_cli.pipelines.download import download
from labeldep_cli.progress import Reporter


@dataclass(frozen=True)
class DataReport:
    """The result of `labeldep data`.

    Attributes:
        dataset: name of the data set.
        splits: train, val, test.
        n_labels: number of labels.
        held_out: whether val was drawn from train, rather than defined by the data set.
        missing: images that a named data set lists but that are not on the disk.
        unreadable: images that cannot be used, with the reason; for a user's own data also missing files.
        duplicates: groups of identical files; groups that cross splits come first.
        near_identical: images that look the same.
        absent_labels: labels without any positive, for the splits that have such labels.
        label_gaps: labels that cannot be trained, tuned or scored.
        cooccurrence: the pairs of labels with the highest lift, at most STRONGEST.
        notes: what was left out or drawn when the data set was loaded.
        published: comparison with the published counts, one sentence each; empty for a user's own data.
        has_features: whether the data set has ready features instead of images.
        pixels: what its images look like.
        corrections: what the decisions of `labeldep review` have changed; None if they were not read.
        labels: the names of the labels, in order.
        ignored: the columns of the file that were not read.
        constant_labels: labels that are present in every row in which they are known.
    """

    dataset: str
    splits: Mapping[str, SplitReport]
    n_labels: int
    held_out: bool
    missing: tuple[str, ...]
    unreadable: tuple[Skipped, ...]
    duplicates: tuple[Duplicate, ...]
    near_identical: TwinReport
    absent_labels: Mapping[str, tuple[str, ...]]
    label_gaps: LabelGaps
    cooccurrence: tuple[Cooccurrence, ...]
    notes: tuple[str, ...]
    published: tuple[str, ...]
    has_features: bool
    pixels: PixelReport
    corrections: Corrections | None
    labels: tuple[str, ...]
    ignored: tuple[str, ...]
    constant_labels: tuple[str, ...]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """All images that training would leave out: the unreadable ones, then the missing ones."""
        return self.unreadable + tuple(Skipped(path, Reason.MISSING.text, missing=True) for path in self.missing)

    def to_json(self) -> dict[str, Any]:
        """The JSON of `labeldep data`; numbers are unrounded."""
        return {
            "dataset": self.dataset,
            "splits": {name: split.to_json() for name, split in self.splits.items()},
            "n_labels": self.n_labels,
            "labels": list(self.labels),
            "ignored_columns": list(self.ignored),
            "constant_labels": list(self.constant_labels),
            "held_out": self.held_out,
            "missing": list(self.missing),
            "unreadable": [skipped.to_json() for skipped in self.unreadable],
            "duplicates": [duplicate.to_json() for duplicate in self.duplicates],
            "near_identical": self.near_identical.to_json(),
            "absent_labels": {split: list(labels) for split, labels in self.absent_labels.items()},
            "label_gaps": self.label_gaps.to_json(),
            "cooccurrence": [pair.to_json() for pair in self.cooccurrence],
            "corrections": None if self.corrections is None else self.corrections.to_json(),
            "notes": [*self.notes, *self.published],
            "skipped": [skipped.to_json() for skipped in self.skipped],
            "pixels": self.pixels.to_json(),
        }


def data(
    data_dir: Path, source: Source, machine: Machine, reporter: Reporter, wish: DownloadConfig | None = None
) -> DataReport:
    """Load a data set and check it.

    Args:
        data_dir: the folder of the data sets.
        source: the data set, and how its splits are drawn.
        machine: number of decoding processes.
        reporter: takes notes and progress.
        wish: download what is missing first, in this way; None to download nothing.

    Raises:
        DatasetError: the data set is missing or malformed.
        DownloadError, StorageError: it cannot be downloaded.
    """
    if wish is not None:
        download(data_dir, source, wish, reporter)
    dataset = registry.load_source(source, data_dir, reporter)
    note_reach_after(None, len(dataset.space), reporter)
    return check(dataset, machine.n_workers, reporter, PixelRules.of(source))


def check(dataset: Dataset, workers: int, reporter: Reporter, rules: PixelRules = USUAL_RULES) -> DataReport:
    """Count a data set's labels, and read all of its images.

    Every image file is fully decoded. Files of equal size are compared by their SHA-256. Ready features have no images
    to check.

    Args:
        dataset: the data set.
        workers: processes that decode; 0 decodes in this one.
        reporter: takes the progress over images.
        rules: how image files become 8-bit RGB.

    Raises:
        DatasetError: no image of the user's own data is there, or a worker process died, for example because memory
            ran out.
    """
    require_some_images(dataset)
    splits = () if dataset.has_features else dataset.splits.values()
    entries = [entry for split in splits for entry in listed_images(split)]
    images = read_all(entries, rules, workers, reporter) if entries else []
    skipped = [
        Skipped(entry.path, Reason(image.reason).text, missing=dataset.named and image.reason in ABSENT)
        for entry, image in zip(entries, images, strict=True)
        if image.reason
    ]
    n_missing = Counter(entry.split for entry, image in zip(entries, images, strict=True) if image.reason in ABSENT)
    return DataReport(
        dataset=dataset.name,
        splits={name: describe(split, n_missing[name]) for name, split in dataset.splits.items()},
        n_labels=len(dataset.space),
        held_out="val" in dataset.drawn,
        missing=tuple(skip.path for skip in skipped if skip.missing),
        unreadable=tuple(skip for skip in skipped if not skip.missing),
        duplicates=duplicates_among(entries, images),
        near_identical=compare_looks(dataset, images) if entries else TwinReport(),
        absent_labels=absent_labels_of(dataset),
        label_gaps=LabelGaps.of(dataset),
        cooccurrence=strongest_cooccurrences(dataset),
        notes=dataset.notes,
        published=compare_with_published(dataset),
        has_features=dataset.has_features,
        pixels=PixelReport.of([entry.path for entry in entries], [image.pixels for image in images], rules),
        corrections=dataset.corrections,
        labels=dataset.space.names,
        ignored=dataset.ignored,
        constant_labels=constant_labels_of(dataset),
    )
