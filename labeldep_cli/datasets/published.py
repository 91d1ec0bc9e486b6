"""The published sizes of named data sets, to check whether a data set is complete."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from labeldep_cli.datasets.split import Dataset


@dataclass(frozen=True)
class PublishedPart:
    """A published part of a data set.

    Attributes:
        name: its published name.
        splits: the splits that together are this part.
        images: number of images with at least one label.
        labels_per_image: mean number of labels of these images.
    """

    name: str
    splits: tuple[str, ...]
    images: int
    labels_per_image: float


_NUSWIDE = (PublishedPart("NUS-WIDE", ("train", "val", "test"), 209_347, 2.41),)
PUBLISHED: Mapping[str, tuple[PublishedPart, ...]] = MappingProxyType(
    {
        "coco": (
            PublishedPart("train2014", ("train", "val"), 82_081, 2.94),
            PublishedPart("val2014", ("test",), 40_137, 2.90),
        ),
        "nuswide": _NUSWIDE,
        "nuswide-official": _NUSWIDE,
    }
)


def compare_with_published(dataset: Dataset) -> tuple[str, ...]:
    """One sentence for each published part: whether the data set has all of its labels."""
    return tuple(_compare(dataset, part) for part in PUBLISHED.get(dataset.name, ()))


def _compare(dataset: Dataset, part: PublishedPart) -> str:
    splits = [dataset.splits[name] for name in part.splits]
    images = sum(len(split) for split in splits)
    labels = sum(int((split.labels == 1).sum()) for split in splits) / max(images, 1)
    published = f"{part.images:,} published images with labels"
    if images < part.images:
        return f"{part.name}: {images:,} of {published}: a subset"
    if images > part.images or round(labels, 2) != part.labels_per_image:
        return (
            f"{part.name}: {images:,} images with {labels:.2f} labels each, "
            f"not the {published} and {part.labels_per_image:.2f}: other annotations"
        )
    return f"{part.name}: all {published}, {labels:.2f} labels an image"
