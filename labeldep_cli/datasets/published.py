"""What named data sets hold as their authors published them, to tell a whole one from a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from labeldep_cli.datasets.split import Dataset


@dataclass(frozen=True)
class Known:
    """A published part of a data set.

    Attributes:
        part: its name.
        splits: the splits that it is here.
        images: those that carry a label.
        labels_per_image: their mean number of labels.
    """

    part: str
    splits: tuple[str, ...]
    images: int
    labels_per_image: float


_NUSWIDE = (Known("NUS-WIDE", ("train", "val", "test"), 209_347, 2.41),)
PUBLISHED: Mapping[str, tuple[Known, ...]] = MappingProxyType(
    {
        "coco": (
            Known("train2014", ("train", "val"), 82_081, 2.94),
            Known("val2014", ("test",), 40_137, 2.90),
        ),
        "nuswide": _NUSWIDE,
        "nuswide-official": _NUSWIDE,
    }
)


def compared(dataset: Dataset) -> tuple[str, ...]:
    """One sentence for each published part: whether the labels at hand are all of it."""
    return tuple(_compare(dataset, known) for known in PUBLISHED.get(dataset.name, ()))


def _compare(dataset: Dataset, known: Known) -> str:
    splits = [dataset.splits[name] for name in known.splits]
    images = sum(len(split) for split in splits)
    labels = sum(int((split.labels == 1).sum()) for split in splits) / max(images, 1)
    published = f"{known.images:,} published images with labels"
    if images < known.images:
        return f"{known.part}: {images:,} of {published}: a subset"
    if images > known.images or round(labels, 2) != known.labels_per_image:
        return (
            f"{known.part}: {images:,} images with {labels:.2f} labels each, "
            f"not the {published} and {known.labels_per_image:.2f}: other annotations"
        )
    return f"{known.part}: all {published}, {labels:.2f} labels an image"
