"""Images of a data set that look the same, from what was read of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labeldep_cli.datasets.split import Dataset
from labeldep_cli.datasets.twins import Looks, TwinReport, twins_of
from labeldep_cli.features.check import ListedImage, ReadImage, listed_images, read_all
from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.value_ranges import joined, suggested_range
from labeldep_cli.progress import Reporter

if TYPE_CHECKING:  # it imports torch, which `labeldep data` does without
    from labeldep_cli.features.store.known_files import KnownFiles


def near_identical(
    dataset: Dataset,
    contents: Sequence[bytes],
    known: KnownFiles,
    rules: PixelRules,
    workers: int,
    reporter: Reporter,
) -> TwinReport:
    """Find the images of a data set that look the same. An image is read only if it was never compared before.

    Args:
        dataset: the data set.
        contents: the SHA-256 of its images, one split after the other; empty for an image that is not compared.
        known: keeps what images look like.
        rules: how image files become 8-bit RGB.
        workers: processes that decode; 0 decodes in this one.
        reporter: takes the progress over images.

    Raises:
        DatasetError: a worker process died, for example because memory ran out.
    """
    looks = known.looks(rules.words)
    entries = [entry for split in dataset.splits.values() for entry in listed_images(split)]
    unseen = {
        content: entry
        for content, entry in zip(contents, entries, strict=True)
        if content and content not in looks and entry.size is not None
    }
    if unseen:
        images = read_all(list(unseen.values()), rules, workers, reporter)
        found = {content: image.look for content, image in zip(unseen, images, strict=True) if not image.reason}
        known.remember_looks(rules.words, found)
        looks |= found
    n_plain = sum(looks.get(content, 0) is None for content in contents)
    everything = Looks.of([looks.get(content) for content in contents], [content or None for content in contents])
    return twins_of(dataset, everything, n_plain)


def compare_looks(dataset: Dataset, images: Sequence[ReadImage]) -> TwinReport:
    """Find the images that look the same among the images of a data set, one split after the other."""
    n_plain = sum(not image.reason and image.look is None for image in images)
    return twins_of(dataset, looks_of(images), n_plain)


def looks_of_files(files: Sequence[Path], workers: int, reporter: Reporter) -> Looks:
    """Read image files; what they look like.

    A range of values that is unclear is measured: an image looks the same in any range that holds its values.

    Args:
        files: the files; those that cannot be read look like nothing.
        workers: processes that decode; 0 decodes in this one.
        reporter: takes the progress over images.

    Raises:
        DatasetError: as for `near_identical`.
    """
    entries = [ListedImage("", str(file), file, file.stat().st_size) for file in files]
    images = read_all(entries, USUAL_RULES, workers, reporter)
    unclear = [row for row, image in enumerate(images) if image.pixels and image.reason == Reason.NO_VALUE_RANGE]
    values = joined(facts.values for row in unclear if (facts := images[row].pixels) and facts.values)
    if values is not None:
        rules = PixelRules(suggested_range(values))
        again = read_all([entries[row] for row in unclear], rules, workers, reporter)
        for row, image in zip(unclear, again, strict=True):
            images[row] = image
    return looks_of(images)


def looks_of(images: Sequence[ReadImage]) -> Looks:
    """What images look like that were read."""
    return Looks.of([image.look for image in images], [image.digest for image in images])
