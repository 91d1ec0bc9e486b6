"""Planet's table of satellite images: image_name,tags, with blanks between the tags."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import defined, read_tables
from labeldep_cli.ingest.sheet import header_of
from labeldep_cli.ingest.table_files import tables_of


def recognises(source: Path) -> bool:
    """Whether the columns of a table are image_name and tags."""
    return any(header_of(file) == ("image_name", "tags") for _, file in tables_of(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the table.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    understood = [] if config.label_separator else ["between labels: blanks"]
    return read_tables(source, config, defined(config, label_separator=" "), understood=understood)
