"""Long tables: a row for each label of an image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.doubts.names import suspected_separator
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import question
from labeldep_cli.ingest.columns import images_column, named_column, path_column, require_ignored, split_column
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.plain_table import add_found
from labeldep_cli.ingest.sheet import LIST_NAMES, Sheet, head_rows, letters, read_sheet
from labeldep_cli.ingest.split_column import row_splits
from labeldep_cli.ingest.table_files import tables_of
from labeldep_cli.ingest.values import label_values

_VALUES = ("confidence", "value", "present", "presence", "score", "probability")
"""Names of columns that say whether an image has the label of its row."""


def recognises(source: Path) -> bool:
    """Whether the first images of a table have several rows with a label each."""
    return any(_repeats(head_rows(file, 500)) for _, file in tables_of(source))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the tables of a source.

    Raises:
        DatasetError: names the file, the line and the problem, and the command that answers a question.
    """
    return read_long(source, config, config, {})


def read_long(source: Path, config: ImportConfig, how: ImportConfig, names: Mapping[str, str]) -> Foreign:
    """Read the tables of a source.

    Args:
        source: the file or folder.
        config: the user's flags.
        how: these flags, with what the form defines. `blank` says what a label is of which an image has no row.
        names: the names of labels that are written as codes.

    Raises:
        DatasetError: names the file, the line and the problem, and the command that answers a question.
    """
    reading = Reading(source, config, names="cells")
    columns: dict[str, None] = {}
    for split, file in tables_of(source):
        sheet = read_sheet(file, reading, how)
        add_found(_entries(sheet, reading, how, names), file, split, reading)
        columns |= dict.fromkeys(sheet.header)
    require_ignored(reading, columns)
    return reading.finish(source if source.is_dir() else source.parent)


def _entries(sheet: Sheet, reading: Reading, how: ImportConfig, names: Mapping[str, str]) -> list[Entry]:
    if not sheet.header:
        raise DatasetError(f"{sheet.file} has no names of columns", "Add a first line, such as path,label.")
    path, label, value = path_column(sheet, reading, how), _label_column(sheet, reading, how), _value_column(sheet)
    split = split_column(sheet, reading, how, [k for k in range(len(sheet.header)) if k not in (path, label, value)])
    group = named_column(sheet, how.group_column) if how.group_column else None
    reading.ignored += [name for k, name in enumerate(sheet.header) if k not in (path, label, value, split, group)]
    splits = [None] * len(sheet.rows) if split is None else row_splits(sheet, split, reading)
    unsaid = _unsaid(reading, how, value is not None)
    by_path: dict[str, dict[str, int]] = {}
    split_of: dict[str, str | None] = {}
    group_of: dict[str, str | None] = {}
    disputed = 0
    for row, said in enumerate(_said(sheet, value, reading, how)):
        cells = sheet.rows[row]
        values = by_path.setdefault(cells[path], {})
        split_of[cells[path]] = splits[row]
        group_of[cells[path]] = None if group is None else cells[group] or None
        name = names.get(cells[label], cells[label])
        if said is None or not name:
            continue
        disputed += values.get(name, said) != said
        values[name] = said if values.get(name, said) == said else UNKNOWN
    if disputed:
        reading.understood.append(f"unknown, since rows of one image and label disagree: {disputed}")
    return [Entry(image, values, unsaid, split_of[image], group_of[image]) for image, values in by_path.items()]


def _said(sheet: Sheet, value: int | None, reading: Reading, how: ImportConfig) -> Sequence[int | None]:
    """What each row says of its label: 1, 0, -1; None if it is broken."""
    if value is None:
        return [1] * len(sheet.rows)
    found = label_values(sheet, (value,), (sheet.header[value],), reading, how, asks=False)
    return [None if values is None else values.get(sheet.header[value], 0) for values in found]


def _unsaid(reading: Reading, how: ImportConfig, has_values: bool) -> int:
    """The value of a label of which an image has no row.

    Raises:
        DatasetError: it is open, since rows also say that labels are absent.
    """
    if has_values and how.blank is None:
        asked = Doubt(
            "rows say which labels an image has and which not: what of the labels that it has no row of?",
            (
                Answer("If they are absent", {"blank": "absent"}),
                Answer("If nobody looked for them", {"blank": "unknown"}),
            ),
        )
        raise question(asked, reading.source, reading.config)
    unsaid = how.blank or "absent"
    sentence = f"a row for each label of an image; labels without a row are {unsaid}"
    if sentence not in reading.understood:
        reading.understood.append(sentence)
    return UNKNOWN if unsaid == "unknown" else 0


def _label_column(sheet: Sheet, reading: Reading, how: ImportConfig) -> int:
    name = how.labels_column or next((name for name in sheet.header if letters(name) in LIST_NAMES), None)
    if name is None or name not in sheet.header:
        raise DatasetError(
            f"{sheet.file} has no column {name or 'of labels'!r}", f"Its columns are {', '.join(sheet.header)}."
        )
    return sheet.header.index(name)


def _value_column(sheet: Sheet) -> int | None:
    return next((k for k, name in enumerate(sheet.header) if letters(name) in _VALUES), None)


def _repeats(rows: list[list[str]]) -> bool:
    """Whether a column of images has many of its cells several times, beside a column of one label each."""
    if len(rows) < 4 or not any(letters(name) in LIST_NAMES for name in rows[0]):
        return False
    label = next(k for k, name in enumerate(rows[0]) if letters(name) in LIST_NAMES)
    whole = [row for row in rows[1:] if len(row) == len(rows[0])]
    image = images_column(rows[0], whole)
    if image is None or suspected_separator(Counter(row[label] for row in whole), separated=False, used=""):
        return False
    images, pairs = {row[image] for row in whole}, {(row[image], row[label]) for row in whole}
    return len(images) < min(0.8 * len(whole), len(pairs))
