"""Settings of `labeldep import`: what a foreign file leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labeldep_cli.config.reading import read_names
from labeldep_cli.config.settings import setting

Meaning = Literal["absent", "unknown"]
"""What a value that is neither 1 nor 0 says about a label."""


@dataclass(frozen=True)
class ImportConfig:
    """How a foreign file is read. None: as its form says, or as its content shows.

    Attributes:
        form: the name of a form in `ingest.forms.FORMS`.
        delimiter: one character, or "tab".
        label_names: the names of positions, where labels are written as numbers or as a list of 1 and 0.
        nothing: words in a list of labels that mean that there is none.
        out: the file to write, for the commands in remedies; None for the default one.
    """

    form: str | None = setting(
        None,
        "Form of the source: {forms}.",
        panel="What",
        flag="--format",
        complete="form",
        default_text="recognised by its content",
    )
    path_column: str | None = setting(None, "Column with the path or name of the image.", panel="What")
    labels_column: str | None = setting(None, "Column that lists the labels of an image.", panel="What")
    label_columns: tuple[str, ...] = setting(
        (), "Columns with one label each, separated by commas.", panel="What", parser=read_names, metavar="NAMES"
    )
    ignore_columns: tuple[str, ...] = setting(
        (), "Columns or labels to leave out, separated by commas.", panel="What", parser=read_names, metavar="NAMES"
    )
    split_column: str | None = setting(None, "Column with the split of an image.", panel="What")
    group_column: str | None = setting(
        None, "Column with the patient, video or burst of an image; no draw divides one.", panel="What"
    )
    label_names: tuple[str, ...] = setting(
        (),
        "Names of the labels, in order, where the source has numbers in their place.",
        panel="What",
        parser=read_names,
        metavar="NAMES",
    )
    delimiter: str | None = setting(None, "Character between columns; tab for a tabulator.", panel="How")
    label_separator: str | None = setting(None, "Character or word between the labels of a list.", panel="How")
    encoding: str | None = setting(None, "Encoding of the text, such as cp1252.", panel="How")
    quotes: bool = setting(
        True,
        "Quotation marks hold a cell together; --no-quotes: they do not, and those around a cell are removed.",
        panel="How",
    )
    suffix: str | None = setting(None, "Ending to add to the names of images, such as .jpg.", panel="How")
    images_dir: Path | None = setting(None, "Folder that the paths of images start from.", panel="How")
    minus_one: Meaning | None = setting(None, "Meaning of -1: the label is absent, or unknown.", panel="How")
    blank: Meaning | None = setting(None, "Meaning of an empty cell: the label is absent, or unknown.", panel="How")
    threshold: float | None = setting(
        None,
        "Smallest value of a present label, where values between 0 and 1 say how sure one is.",
        panel="How",
        min=0.0,
        max=1.0,
    )
    nothing: tuple[str, ...] = setting(
        (), "Words in a list that mean no label, separated by commas.", panel="How", parser=read_names, metavar="WORDS"
    )
    merge_alike: bool = setting(
        False, "Take names that differ in case, blanks or Unicode form as one label.", panel="How"
    )
    drop_broken: bool = setting(False, "Leave out rows and annotations that cannot be read.", panel="How")
    standardize: bool = setting(
        False, "Bring ready features to mean 0 and deviation 1 over the training rows.", panel="How"
    )
    out: Path | None = None
