"""Roboflow's multi-label export: _classes.csv beside the images, in folders train, valid and test."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import defined, read_tables
from labeldep_cli.ingest.sheet import header_of
from labeldep_cli.ingest.table_files import tables_of

_NAME = "_classes.csv"
_NOTHING = "Unlabeled"


def recognises(source: Path) -> bool:
    """Whether a file is called _classes.csv, or a folder or its folders train, valid and test have one."""
    return any(file.name == _NAME for _, file in tables_of(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the tables. A column `Unlabeled` is no label.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    path, *classes = header_of(tables_of(source)[0][1])
    labels = tuple(name for name in classes if name not in (_NOTHING, *config.ignore_columns))
    return read_tables(source, config, defined(config, path_column=path, label_columns=labels))
