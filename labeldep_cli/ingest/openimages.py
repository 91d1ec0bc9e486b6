"""OpenImages' image labels: a row for each label that was looked at, present or absent; all others are unknown."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.long_table import read_long
from labeldep_cli.ingest.plain_table import defined
from labeldep_cli.ingest.sheet import header_of
from labeldep_cli.ingest.table_files import tables_of
from labeldep_cli.ingest.text import read_text


def recognises(source: Path) -> bool:
    """Whether a table has OpenImages' columns."""
    return any({"ImageID", "LabelName"} <= set(header_of(file)) for _, file in tables_of(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the table: Confidence 0 is a label that was looked for in vain. Labels have the names of class-descriptions.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    how = defined(config, path_column="ImageID", labels_column="LabelName", blank="unknown")
    folder = source if source.is_dir() else source.parent
    return read_long(source, config, how, _descriptions(folder, config))


def _descriptions(folder: Path, config: ImportConfig) -> dict[str, str]:
    """The name of each label's code, such as /m/01g317; empty if there is no file of them."""
    file = next(iter(sorted(folder.glob("*class-descriptions*.csv"))), None)
    if file is None:
        return {}
    rows = csv.reader(io.StringIO(read_text(file, config, file)[0], newline=""))
    return {row[0]: row[1] for row in rows if len(row) == 2}
