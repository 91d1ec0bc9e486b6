"""Settings of `labeldep import`: what a foreign file leaves open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labeldep_cli.config.place import Source
from labeldep_cli.config.reading import read_names
from labeldep_cli.config.settings import like, setting

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
        stratify: on by default, unlike in `Source`: splits that are written down do not move when rows are added.
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
    corrections: bool = like(Source, "corrections")
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
        "Smallest value of a present label, where values say how sure one is, or how often it is there.",
        panel="How",
        min=0.0,
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
    draw_splits: bool = setting(False, "Draw val and test, if the source has none, and write them down.", panel="What")
    folds: int | None = setting(
        None, "Draw this many folds and write them down, to test on each of them in turn (--fold).", panel="What", min=2
    )
    drop_leaks: bool = setting(
        False,
        "Leave out the copy in train, or in val, of an image that is in test or val too. Splits and folds that are "
        "drawn get all copies on one side.",
        panel="What",
    )
    val_fraction: float = like(Source, "val_fraction", help="With --draw-splits, share of train held out for val.")
    test_fraction: float = like(Source, "test_fraction", help="With --draw-splits, share of rows held out for test.")
    split_seed: int = like(Source, "split_seed", help="Seed of the draw of splits or folds.")
    stratify: bool = like(
        Source, "stratify", default=True, help="Draw so that each part gets its share of every label."
    )
    out: Path | None = None
