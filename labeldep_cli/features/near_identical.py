"""Images of a data set that look the same, from what was read of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labeldep_cli.datasets.split import Dataset
from labeldep_cli.datasets.twins import Looks, TwinReport, twins_of
from labeldep_cli.features.check import ListedImage, ReadImage, listed_images, read_all
from labeldep_cli.features.pixel_rules import USUAL_RULES, PixelRules
from labeldep_cli.progress import Reporter


def near_identical(dataset: Dataset, rules: PixelRules, workers: int, reporter: Reporter) -> TwinReport:
    """Read all images of a data set, and find those that look the same; ready features have none.

    Args:
        dataset: the data set.
        rules: how image files become 8-bit RGB.
        workers: processes that decode; 0 decodes in this one.
        reporter: takes the progress over images.

    Raises:
        DatasetError: a worker process died, for example because memory ran out.
    """
    if dataset.has_features:
        return TwinReport()
    entries = [entry for split in dataset.splits.values() for entry in listed_images(split)]
    return compare_looks(dataset, read_all(entries, rules, workers, reporter))


def compare_looks(dataset: Dataset, images: Sequence[ReadImage]) -> TwinReport:
    """Find the images that look the same among the images of a data set, one split after the other."""
    n_plain = sum(not image.reason and image.look is None for image in images)
    return twins_of(dataset, looks_of(images), n_plain)


def looks_of_files(files: Sequence[Path], workers: int, reporter: Reporter) -> Looks:
    """Read image files; what they look like. Arguments and errors as for `near_identical`."""
    entries = [ListedImage("", str(file), file, file.stat().st_size) for file in files]
    return looks_of(read_all(entries, USUAL_RULES, workers, reporter))


def looks_of(images: Sequence[ReadImage]) -> Looks:
    """What images look like that were read."""
    return Looks.of([image.look for image in images], [image.digest for image in images])
