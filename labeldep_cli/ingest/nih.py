"""NIH ChestX-ray14: Data_Entry_2017.csv, and the lists of its splits beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.entries import Entry
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import defined, read_tables
from labeldep_cli.ingest.sheet import header_of
from labeldep_cli.ingest.text import read_text

_PATH, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"
_LISTS = {"train_val_list.txt": "train", "test_list.txt": "test"}


def recognises(source: Path) -> bool:
    """Whether a table has NIH's columns, or a folder has Data_Entry_2017.csv."""
    return {_PATH, _LABELS} <= set(header_of(_table(source)))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the table. `No Finding` is no label; images of one patient are a group.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    table = _table(source)
    patient = _PATIENT if _PATIENT in header_of(table) else None
    how = defined(
        config,
        path_column=_PATH,
        labels_column=_LABELS,
        label_separator="|",
        nothing=("No Finding",),
        group_column=patient,
    )
    splits = {
        image.strip(): split
        for name, split in _LISTS.items()
        if (table.parent / name).is_file()
        for image in read_text(table.parent / name, config, source)[0].splitlines()
    }

    def with_split(entry: Entry) -> Entry:
        return replace(entry, split=splits.get(entry.path))

    understood = ["'No Finding' means that an image has no label"]
    understood += [f"the column {patient!r} is the group of an image"] if patient and not config.group_column else []
    understood += [f"splits by {' and '.join(_LISTS)}"] if splits else []
    return read_tables(table, config, how, also=with_split, understood=understood)


def _table(source: Path) -> Path:
    return next(iter(sorted(source.glob("Data_Entry*.csv"))), source) if source.is_dir() else source
