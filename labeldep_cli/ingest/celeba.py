"""CelebA: list_attr_celeba.txt or .csv, where -1 means absent, and list_eval_partition beside it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import defined, read_tables
from labeldep_cli.ingest.sheet import Sheet, evened, header_of
from labeldep_cli.ingest.split_column import OF_NUMBERS
from labeldep_cli.ingest.text import head_of, read_text


def recognises(source: Path) -> bool:
    """Whether a file is called list_attr..., or has CelebA's attributes; or a folder has such a file."""
    file = _attributes(source)
    return file is not None and (file.stem.startswith("list_attr") or "5_o_Clock_Shadow" in head_of(file))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the attributes, and the splits where the partition lies beside them.

    Raises:
        DatasetError: names the file, the line and the problem.
    """
    file = _attributes(source) or source
    splits = _partition(file.parent, config)

    def with_split(entry: Entry) -> Entry:
        return replace(entry, split=splits.get(entry.path))

    counts_images = head_of(file).lstrip()[:1].isdecimal()
    names = "".join(head_of(file).splitlines()[1:2]).split() if counts_images else list(header_of(file))[1:]
    labels = tuple(name for name in names if name not in config.ignore_columns)
    how = defined(
        config, minus_one="absent", label_columns=labels, delimiter="blank" if counts_images else config.delimiter
    )
    understood = ["splits by list_eval_partition"] if splits else []
    return read_tables(file, config, how, shape=_with_header, also=with_split, understood=understood)


def _attributes(source: Path) -> Path | None:
    if source.is_file():
        return source
    return next(iter(sorted(source.glob("list_attr*.*"))), None)


def _with_header(sheet: Sheet, reading: Reading) -> Sheet:
    """The text file's second line names the attributes; its first line is the number of images."""
    if sheet.header:
        return sheet
    header = ("image_id", *(sheet.rows[1] if len(sheet.rows) > 1 else ()))
    rows, lines = evened(sheet.file, sheet.rows[2:], sheet.lines[2:], header, reading)
    return replace(sheet, header=header, rows=rows, lines=lines)


def _partition(folder: Path, config: ImportConfig) -> dict[str, str]:
    """The split of each image; empty if there is no partition."""
    file = next((file for file in sorted(folder.glob("list_eval_partition.*"))), None)
    if file is None:
        return {}
    cells = [re.split(r"[,\s]+", line.strip()) for line in read_text(file, config, file)[0].splitlines()]
    return {row[0]: OF_NUMBERS[row[1]] for row in cells if len(row) > 1 and row[1] in OF_NUMBERS}
