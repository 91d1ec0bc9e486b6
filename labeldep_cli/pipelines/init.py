"""`labeldep init`: data sets and backbones to suggest, and the project file to write."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from labeldep_cli.config import DEFAULT_BACKBONE, DEFAULT_WEIGHTS, Source, Workspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.formats import FORMATS
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import BackboneError, DatasetError, LabeldepError
from labeldep_cli.experiments.requirements import SMALL_VAL
from labeldep_cli.files import write_text
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import published_file
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.prepared import Frame, find_prepared
from labeldep_cli.text import is_utf8, json_text

MOST_TABLES = 20
"""Largest number of files that are opened to check whether they are data sets."""

_SMALL_BACKBONE = "squeezenet1_1"
"""Offered to those who only want to try the tool on a CPU."""

_FRACTIONS = (Source.val_fraction, 0.1, 0.2)

_HEAD = """\
# Flags for all commands of this project. The command line and the environment override them.
# Paths are relative to this file. A key is any flag without its dashes; `labeldep doctor` shows what is in use.

[defaults]
"""
_TAIL = """
# A table is for one command:
#
# [adversarial]
# critic = "nce"
# freeze-generator = true
"""
_COMMENTS = {
    "backbone": "the network that turns images into features",
    "weights": "its weights: default is torchvision's, none is random",
    "val-fraction": "share of train held out to choose thresholds on",
}


@dataclass(frozen=True)
class DatasetOffer:
    """A data set that was opened.

    Attributes:
        name: name or path, as for `--dataset`.
        dataset: the data set.
    """

    name: str
    dataset: Dataset

    @property
    def draws_val(self) -> bool:
        """Whether its val split has to be drawn from train."""
        return "val" in self.dataset.drawn

    @property
    def val_fraction(self) -> float:
        """The smallest share in `_FRACTIONS` that gives val at least `SMALL_VAL` rows, else the largest share."""
        rows = sum(len(self.dataset.splits[name]) for name in ("train", "val"))
        return next((share for share in _FRACTIONS if share * rows >= SMALL_VAL), _FRACTIONS[-1])

    def __str__(self) -> str:
        """Name, number of rows and labels, and the splits."""
        splits = {name: len(split) for name, split in self.dataset.splits.items()}
        shown = ", ".join(f"{name} {count:,}" for name, count in splits.items())
        kind = "rows of ready features" if self.dataset.has_features else "rows"
        return f"{self.name}: {sum(splits.values()):,} {kind}, {len(self.dataset.space)} labels ({shown})"


@dataclass(frozen=True)
class NamedOffer:
    """A named data set that is not opened yet, since that may take a while."""

    name: str
    help: str

    def __str__(self) -> str:
        """Name and description."""
        return f"{self.name}: {self.help}"


@dataclass(frozen=True)
class BackboneOffer:
    """A backbone with weights and the framing of its images, and why it is offered."""

    name: str
    weights: str
    why: str
    frame: Frame = (None, None)

    def __str__(self) -> str:
        """Backbone, weights, framing and reason."""
        size, resize = self.frame
        weights = "" if self.weights == DEFAULT_WEIGHTS else f", weights {self.weights}"
        framed = f"{f', {size} pixels' if size else ''}{f', {resize}' if resize else ''}"
        return f"{self.name}{weights}{framed}: {self.why}"


def open_dataset(name: str, data_dir: Path) -> DatasetOffer:
    """Open a data set.

    Raises:
        DatasetError: it is missing or malformed.
    """
    return DatasetOffer(name, registry.load_source(Source(name), data_dir, SilentReporter()))


def dataset_offers(data_dir: Path) -> list[DatasetOffer] | list[NamedOffer]:
    """The data sets in the working directory; if there are none, the named ones that are on disk."""
    return list(_opened(_tables(), data_dir)) or [
        NamedOffer(name, row.help) for name, row in DATASETS.items() if not row.missing_files(data_dir)
    ]


def _opened(names: Iterable[str], data_dir: Path) -> Iterator[DatasetOffer]:
    for name in names:
        with suppress(DatasetError):  # not every file with such a suffix is a data set
            yield open_dataset(name, data_dir)


def _tables() -> Iterator[str]:
    """Paths that may be data sets, likeliest first: labels.csv, folders with one, other tables, shards."""
    here = sorted(path for path in Path().iterdir() if not path.name.startswith("."))
    files = [path for path in here if path.is_file() and path.suffix.lower() in FORMATS]
    first = [path for path in files if path.stem == "labels"]
    folders = [path / "labels.csv" for path in here if (path / "labels.csv").is_file()]
    others = [path for path in files if path not in first]
    others += [
        path
        for path in sorted(Path().glob("*/labels.*"))
        if path.suffix.lower() in FORMATS and path.suffix.lower() != ".csv"
    ]
    yield from (path.as_posix() for path in (*first, *folders, *others)[:MOST_TABLES])
    for pattern in ("*.tar", *(f"{path.name}/*.tar" for path in here if path.is_dir())):
        if any(Path().glob(pattern)):
            yield pattern


def backbone_offers(offer: DatasetOffer, workspace: Workspace) -> list[BackboneOffer]:
    """The backbones to suggest: the data set's own, prepared ones, the default, and those with weights on this disk."""
    prepared = find_prepared(workspace, offer.dataset, None, {})
    reasons = {"features": "its features of this data set are on this disk", "run": "a run of this data set has it"}
    ready = [
        BackboneOffer(choice.backbone, choice.weights.spec, reasons[choice.by], choice.frame) for choice in prepared
    ]
    if offer.dataset.backbone:
        ready.insert(0, BackboneOffer(offer.dataset.backbone, DEFAULT_WEIGHTS, f"it belongs to {offer.name}"))
    on_disk = {name: BackboneOffer(name, DEFAULT_WEIGHTS, "its weights are on this disk") for name in _downloaded()}
    megabytes = published_file(find_backbone(DEFAULT_BACKBONE)).megabytes
    to_download = BackboneOffer(
        DEFAULT_BACKBONE, DEFAULT_WEIGHTS, f"{megabytes or 0:.0f} MB are downloaded when needed"
    )
    default = on_disk.pop(DEFAULT_BACKBONE, to_download)
    small = BackboneOffer(_SMALL_BACKBONE, DEFAULT_WEIGHTS, "a small one: quick on a CPU, less accurate")
    offers = [*ready, default, *on_disk.values(), small]
    return list({(one.name, one.weights, one.frame): one for one in reversed(offers)}.values())[::-1]


def _downloaded() -> Iterator[str]:
    """The backbones whose published weights are on this disk."""
    for path in sorted((Path(torch.hub.get_dir()) / "checkpoints").glob("*-*.pth")):
        with suppress(BackboneError):
            row = find_backbone(path.name.rsplit("-", 1)[0])
            if published_file(row).path == path:
                yield row.name


def write_project(file: Path, settings: Mapping[str, object]) -> None:
    """Write a project file.

    Args:
        file: path of the file.
        settings: values by flag, without dashes; paths are relative to the working directory.

    Raises:
        StorageError: the file cannot be written.
    """
    text = "".join(
        f"{name} = {_toml(_relative_to(file.parent, name, value))}{_comment(name)}\n"
        for name, value in settings.items()
    )
    write_text(file, _HEAD + text + _TAIL)


def _toml(value: object) -> str:
    """A value as TOML: as JSON, but TOML has no way to write a path that is not UTF-8.

    Raises:
        LabeldepError: it is such a path.
    """
    if not is_utf8(str(value)):
        raise LabeldepError(f"{value} is not UTF-8, and TOML cannot name it", "Rename it, or name it with its flag.")
    return json_text(value)


def _comment(name: str) -> str:
    return f"  # {_COMMENTS[name]}" if name in _COMMENTS else ""


def _relative_to(folder: Path, name: str, value: object) -> object:
    """Make a path relative to a folder; other values stay unchanged."""
    if isinstance(value, int | float):
        return value
    text = str(value)
    is_file = name in ("dataset", "weights") and text not in DATASETS and ("/" in text or Path(text).exists())
    if not (is_file or isinstance(value, Path)) or Path(text).is_absolute() or text.startswith("~"):
        return text
    # The working directory's path has no links; where `folder` has some, `..` in the file leads out of their target.
    start = os.path.realpath(folder)
    return Path(os.path.relpath(os.path.realpath(text) if ".." in Path(text).parts else text, start)).as_posix()
