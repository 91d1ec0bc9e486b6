"""Tables in text files of any dialect: columns of one label each, or a column that lists labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, some
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import question
from labeldep_cli.ingest.columns import Columns, columns_of, name_images, require_ignored, with_one_list
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.lists import listed_labels
from labeldep_cli.ingest.sheet import Sheet, head_rows, read_sheet
from labeldep_cli.ingest.split_column import row_splits, splits_of_folders
from labeldep_cli.ingest.table_files import folders_of_images, tables_of
from labeldep_cli.ingest.values import holds_values, label_values


def recognises(source: Path) -> bool:
    """Whether a source is a table in plain text, or a folder with one, or with one for each split."""
    return any(len(row) > 1 for _, file in tables_of(source) for row in head_rows(file, 5))


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read tables; what flags do not say is taken from names of columns and from cells.

    Raises:
        DatasetError: names the file, the line and the problem, and the command that answers a question.
    """
    return read_tables(source, config, config)


def read_tables(
    source: Path,
    config: ImportConfig,
    how: ImportConfig,
    names: Mapping[str, str] | None = None,
    shape: Callable[[Sheet, Reading], Sheet] = lambda sheet, reading: sheet,
    also: Callable[[Entry], Entry] = lambda entry: entry,
    understood: Sequence[str] = (),
) -> Foreign:
    """Read the tables of a source.

    Args:
        source: the file or folder.
        config: the user's flags.
        how: these flags, with what the form defines (`defined`).
        names: the names of label numbers, as files of the form tell them.
        shape: makes a usual sheet of one that the form writes in its own way.
        also: adds what the form tells about an image elsewhere; the path of its entry is as the table writes it.
        understood: sentences about what the form defines.

    Raises:
        DatasetError: names the file, the line and the problem, and the command that answers a question.
    """
    reading = Reading(source, config, understood=list(understood))
    tables = tables_of(source)
    if not tables:
        raise DatasetError(f"{source} has no table", "Name a file with a row for each image.")
    columns: dict[str, None] = {}
    for split, file in tables:
        sheet = with_one_list(shape(read_sheet(file, reading, how), reading), reading)
        before = tuple(reading.declared)
        entries = list(map(also, table_entries(sheet, reading, how, names)))
        _require_same_labels(sheet, before, reading)
        columns |= dict.fromkeys(sheet.header)
        add_found(entries, file, split, reading)
    require_ignored(reading, columns)
    return reading.finish(source if source.is_dir() else source.parent)


def _require_same_labels(sheet: Sheet, before: Sequence[str], reading: Reading) -> None:
    """Require that a table has columns for the same labels as the tables before it.

    Args:
        sheet: the table, which was read.
        before: the labels of the tables before it; empty if there are none.
        reading: with the labels of this one too.

    Raises:
        DatasetError: a label has a column in one of them only: nobody knows whether it is absent in the other.
    """
    if reading.names != "columns" or not before:
        return
    odd = tuple(name for name in reading.declared if name not in before or name not in sheet.header)
    if odd:
        answers = (Answer("To leave out what is not in all tables", {"ignore_columns": odd}),)
        asked = Doubt(f"{sheet.file.name} and the tables before it do not have the same labels: {some(odd)}", answers)
        raise question(asked, reading.source, reading.config)


def defined(config: ImportConfig, **meanings: Any) -> ImportConfig:  # noqa: ANN401 - values of flags
    """The user's flags, with what a form defines where the user says nothing."""
    unsaid = {name: value for name, value in meanings.items() if getattr(config, name) == getattr(ImportConfig, name)}
    return replace(config, **unsaid)


def add_found(
    entries: Sequence[Entry],
    file: Path,
    split: str | None,
    reading: Reading,
    names_of: Callable[[str], Iterable[str]] = lambda path: (path,),
) -> None:
    """Add the images of a table to those that were read, with the places where their files are.

    Args:
        entries: the images; their paths are as the table writes them.
        file: the table.
        split: the one that the table is; None if it has no split or several.
        reading: takes the images.
        names_of: the names that the file of an image may have, by its path.
    """
    finder = ImageFinder(reading.config, folders_of_images(file, reading.source))
    splits: Sequence[str | None] = [entry.split or split for entry in entries]
    if not any(splits) and (of_folders := splits_of_folders([entry.path for entry in entries])):
        splits = of_folders
        reading.understood.append("splits by the folders of the images")
    found = [
        replace(entry, path=finder.find(*names_of(entry.path)), split=own)
        for entry, own in zip(entries, splits, strict=True)
    ]
    reading.entries += found
    elsewhere = [(a.path, b.path) for a, b in zip(entries, found, strict=True) if not b.path.endswith(a.path)]
    if elsewhere:
        written, place = elsewhere[0]
        reading.understood.append(f"images found under other paths: {len(elsewhere)}, such as {written!r} as {place}")


def table_entries(
    sheet: Sheet, reading: Reading, how: ImportConfig, names: Mapping[str, str] | None = None
) -> list[Entry]:
    """The images of a table with their labels; paths as they are written. For the arguments, see `read_tables`."""
    if not sheet.header:
        return _without_header(sheet, reading, how, names)
    columns = columns_of(sheet, reading, how)
    reading.ignored += columns.ignored
    values = _values(sheet, columns, reading, how, names)
    splits = [None] * len(values) if columns.split is None else row_splits(sheet, columns.split, reading)
    entries = []
    for row, cells in enumerate(sheet.rows):
        path, found = cells[columns.path], values[row]
        if not path:
            reading.drop(f"{sheet.file}, line {sheet.lines[row]}: the cell of the image is empty", "Name an image")
        elif found is not None and (columns.split is None or splits[row]):
            group = None if columns.group is None else cells[columns.group] or None
            fold = None if columns.fold is None else int(cells[columns.fold])
            is_blank = columns.listed is not None and not cells[columns.listed]
            unsaid = UNKNOWN if is_blank and how.blank == "unknown" else 0
            entries.append(Entry(path, found, unsaid, splits[row], group, fold))
    return entries


def _values(
    sheet: Sheet, columns: Columns, reading: Reading, how: ImportConfig, names: Mapping[str, str] | None
) -> Sequence[Mapping[str, int] | None]:
    if columns.listed is not None:
        cells = sheet.column(columns.listed)
        if n_blank := cells.count(""):
            meaning = "the labels of an image are unknown" if how.blank == "unknown" else "an image has no label"
            reading.understood.append(f"an empty cell means that {meaning}: {n_blank} cells")
        semicolons_divide_columns = sheet.delimiter == ";" and not any(";" in cell for cell in cells)
        if semicolons_divide_columns and not how.label_separator:
            reading.understood.append("between labels: commas")
        return listed_labels(cells, reading, how, names, "," if semicolons_divide_columns else ";")
    labels = [sheet.header[k] for k in columns.labels]
    reading.declared += [name for name in labels if name not in reading.declared]
    reading.names = "columns"
    return label_values(sheet, columns.labels, labels, reading, how)


def _without_header(sheet: Sheet, reading: Reading, how: ImportConfig, names: Mapping[str, str] | None) -> list[Entry]:
    """The images of a table without names of columns: each row has an image, then its labels or their values."""
    if not name_images(row[0] for row in sheet.rows) and not how.label_names:
        raise DatasetError(f"{sheet.file} has no names of columns", "Add a first line, such as path,labels.")
    width = max(map(len, sheet.rows))
    rest = [row[1:] for row in sheet.rows]
    if width > 2 and all(len(row) == width and all(row) and holds_values(row[1:]) for row in sheet.rows):
        if len(how.label_names) != width - 1:
            numbers = tuple(str(k) for k in range(width - 1))
            answers = (Answer("To call them by their positions", {"label_names": numbers}),)
            asked = Doubt(f"each image has {width - 1} values, but no names of labels", answers)
            raise question(asked, reading.source, reading.config)
        reading.declared += how.label_names
        reading.names = "columns"
        values = label_values(sheet, range(1, width), how.label_names, reading, how)
    else:
        reading.understood.append("no names of columns: each row has an image, then its labels")
        values = list(listed_labels([";".join(filter(None, row)) for row in rest], reading, how, names))
    return [Entry(row[0], found) for row, found in zip(sheet.rows, values, strict=True) if found is not None]
