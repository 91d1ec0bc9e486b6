"""DATASETS: the table of names for `--dataset`; anything else is the path of the user's own data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from labeldep_cli.errors import DatasetError, nearest
from labeldep_cli.files import expand_home
from labeldep_cli.progress import Reporter

if TYPE_CHECKING:
    from labeldep_cli.config import Source
    from labeldep_cli.datasets.draw import Draw
    from labeldep_cli.datasets.split import Dataset


@dataclass(frozen=True)
class DatasetRow:
    """A named data set.

    Attributes:
        load: maps the data folder, the draw and the reporter to the data set; it imports the data set's module only
            when called, so that `--help` does not import numpy.
        help: one line for the help text.
        download: the source of `data --download`: the official archives, or the data set's list of URLs, which the user
            provides; None if there is nothing to download.
        needs: files and folders below the data folder that the data set needs ("a|b": either of them); empty if it is
            part of labeldep.
    """

    load: Callable[[Path, Draw, Reporter], Dataset]
    help: str
    download: Literal["archives", "urls"] | None = None
    needs: tuple[str, ...] = ()

    def missing_files(self, data_dir: Path) -> list[str]:
        """The needed files and folders that do not exist; no file is opened."""
        return [
            str(data_dir / need.split("|")[0])
            for need in self.needs
            if not any((data_dir / path).exists() for path in need.split("|"))
        ]


def _coco(data_dir: Path, draw: Draw, reporter: Reporter) -> Dataset:
    from labeldep_cli.datasets import coco

    return coco.load(data_dir, draw)


def _nuswide(data_dir: Path, draw: Draw, reporter: Reporter) -> Dataset:
    from labeldep_cli.datasets import nuswide

    return nuswide.load(data_dir, draw)


def _nuswide_official(data_dir: Path, draw: Draw, reporter: Reporter) -> Dataset:
    from labeldep_cli.datasets import nuswide

    return nuswide.load_official(data_dir, draw)


def _scenes(data_dir: Path, draw: Draw, reporter: Reporter) -> Dataset:
    from labeldep_cli.datasets.scenes import files as scenes_files

    return scenes_files.load(data_dir, draw, reporter)


_COCO = (
    "coco/annotations/instances_train2014.json",
    "coco/annotations/instances_val2014.json",
    "coco/train2014",
    "coco/val2014",
)
_NUSWIDE = (
    "nuswide/ImageList/Imagelist.txt",
    "nuswide/Groundtruth/AllLabels|nuswide/AllLabels",
    "nuswide/ConceptsList/Concepts81.txt",
    "nuswide/Flickr",
)
_LISTS = ("nuswide/ImageList/TrainImagelist.txt", "nuswide/ImageList/TestImagelist.txt")

DATASETS: Mapping[str, DatasetRow] = MappingProxyType(
    {
        "coco": DatasetRow(_coco, "COCO 2014, 80 labels; val held out of train2014, test = val2014", "archives", _COCO),
        "nuswide": DatasetRow(_nuswide, "NUS-WIDE, 81 labels; 150,000 / 59,347 images, drawn", "urls", _NUSWIDE),
        "nuswide-official": DatasetRow(
            _nuswide_official, "NUS-WIDE, 81 labels; its own train and test lists", "urls", (*_NUSWIDE, *_LISTS)
        ),
        "scenes": DatasetRow(_scenes, "the small data set that comes with labeldep; needs no download"),
    }
)


def load_source(source: Source, data_dir: Path, reporter: Reporter) -> Dataset:
    """Load the data set that the user's settings name, with its corrections; for arguments and errors, see `load`.

    Splits are drawn with the labels as they are written, so that a correction moves no row.
    """
    from labeldep_cli.datasets.corrections import corrected
    from labeldep_cli.datasets.draw import Draw

    dataset = load(source.dataset, data_dir, Draw.of(source), reporter)
    if not source.corrections:
        return dataset
    dataset = corrected(dataset)
    if dataset.corrections and dataset.corrections.words:
        reporter.note(dataset.corrections.words)
    return dataset


def load(name: str, data_dir: Path, draw: Draw, reporter: Reporter) -> Dataset:
    """Load a data set by its name or path, and report which rows were left out and which splits were drawn.

    Args:
        name: a name in DATASETS, the path of the user's own data (see `table.load`), or a pattern of shards (see
            `shards.load`).
        data_dir: folder of the named data sets.
        draw: how to draw the splits that the data set does not define.
        reporter: receives the data set's notes.

    Raises:
        DatasetError: there is no such data set, or it is missing or malformed.
    """
    from labeldep_cli.datasets import shards, table
    from labeldep_cli.datasets.folds import NoFoldsError
    from labeldep_cli.datasets.formats import FORMATS
    from labeldep_cli.datasets.shard_names import SUFFIXES as TARS

    if name in DATASETS:
        if draw.fold is not None:
            raise NoFoldsError(f"{name} has no folds", "Leave --fold out.")
        dataset = DATASETS[name].load(data_dir, draw, reporter)
    elif name.lower().endswith(TARS):
        dataset = shards.load(expand_home(Path(name)), draw, reporter)
    elif _is_path(name, tuple(FORMATS)):
        dataset = table.load(expand_home(Path(name)), draw)
    else:
        titles = ", ".join(row.title for row in FORMATS.values())
        raise DatasetError(
            f"there is no data set {name!r}",
            f"{nearest(name, DATASETS)}\nOr give the path of your own: {titles} or .tar.",
        )
    for note in dataset.notes:
        reporter.note(note)
    return dataset


def _is_path(name: str, suffixes: tuple[str, ...]) -> bool:
    looks_like_path = "/" in name or "\\" in name or name.lower().endswith(suffixes)
    return looks_like_path or (name != "" and expand_home(Path(name)).exists())
