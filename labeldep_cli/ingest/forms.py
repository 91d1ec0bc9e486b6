"""FORMS: the table of foreign forms that `labeldep import` reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.errors import DatasetError, nearest

if TYPE_CHECKING:
    from labeldep_cli.ingest.foreign import Foreign


class Reader(Protocol):
    """The module of a form."""

    def recognises(self, source: Path) -> bool:
        """Whether a file or folder has this form, by its content. It reads as little as it can."""
        ...

    def read(self, source: Path, config: ImportConfig) -> Foreign:
        """Read a file or folder.

        Raises:
            DatasetError: names the place, the problem and, where a flag answers it, the command with that flag.
        """
        ...


@dataclass(frozen=True)
class Form:
    """A foreign form.

    Attributes:
        title: its name in messages.
        module: the name of its module in this room. It is imported when the form is used, so that `--help` needs
            neither numpy nor a reader of XML.
    """

    title: str
    module: str

    @property
    def reader(self) -> Reader:
        """The functions `recognises` and `read` of its module."""
        return cast("Reader", import_module(f"labeldep_cli.ingest.{self.module}"))


FORMS: Mapping[str, Form] = {
    "labeldep": Form("labeldep's own table", "own_table"),
    "celeba": Form("CelebA", "celeba"),
    "chexpert": Form("CheXpert", "chexpert"),
    "nih": Form("NIH ChestX-ray14", "nih"),
    "roboflow": Form("Roboflow _classes.csv", "roboflow"),
    "openimages": Form("OpenImages", "openimages"),
    "planet": Form("Planet", "planet"),
    "numbers": Form("table of label numbers (HPA, iMet)", "numbers"),
    "label-studio-csv": Form("Label Studio CSV", "label_studio_csv"),
    "voc": Form("Pascal VOC", "voc"),
    "cvat": Form("CVAT for images 1.1", "cvat"),
    "fiftyone": Form("FiftyOne", "fiftyone"),
    "label-studio": Form("Label Studio JSON", "label_studio"),
    "coco": Form("COCO or LVIS JSON", "coco"),
    "records": Form("records in JSON, JSONL or metadata.jsonl", "records"),
    "parquet": Form("parquet of Hugging Face", "parquet"),
    "long": Form("table with a row for each label", "long_table"),
    "table": Form("table", "plain_table"),
    "imagefolder": Form("ImageFolder", "image_folder"),
}
"""Forms by the name for --format. The first that recognises a source reads it."""


_OF_TABLES = ("path_column", "labels_column", "label_columns", "delimiter", "encoding", "label_names", "quotes")
"""Flags that say how a table is read, where its content alone does not show that it is one."""


def form_of(source: Path, config: ImportConfig) -> Form:
    """The form of a file or folder: the one that --format names, else the first that recognises the content.

    Raises:
        DatasetError: there is no such form, no such source, or no form recognises it.
    """
    if config.form is not None:
        if config.form not in FORMS:
            raise DatasetError(f"there is no form {config.form!r}", nearest(config.form, FORMS))
        _require(source)
        return FORMS[config.form]
    _require(source)
    for form in FORMS.values():
        if form.reader.recognises(source):
            return form
    if source.is_file():
        from labeldep_cli.ingest.text import read_text

        read_text(source, config, source)
        if any(getattr(config, flag) != getattr(ImportConfig, flag) for flag in _OF_TABLES):
            return FORMS["table"]
    raise DatasetError(
        f"{source}: no form is recognised",
        f"Name it with --format: {', '.join(FORMS)}.\n"
        "A table needs a column of image names (--path-column) and its labels (--labels-column or --label-columns).",
    )


def _require(source: Path) -> None:
    if not source.exists():
        siblings = sorted(path.name for path in source.parent.iterdir()) if source.parent.is_dir() else []
        raise DatasetError(f"there is no {source}", nearest(source.name, siblings) if siblings else "Check the path.")
