"""What the columns of a sheet are: the image, its labels, its split, its group; or nothing that matters here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets import csv_columns
from labeldep_cli.datasets.doubts.columns import label_columns_doubt, tells_something_else
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt, some
from labeldep_cli.datasets.label_cells import read_cells
from labeldep_cli.errors import DatasetError, nearest
from labeldep_cli.ingest.again import question
from labeldep_cli.ingest.entries import Reading
from labeldep_cli.ingest.find_images import ImageFinder
from labeldep_cli.ingest.sheet import LIST_NAMES, Sheet, is_image_name, letters
from labeldep_cli.ingest.split_column import is_split_column
from labeldep_cli.ingest.table_files import folders_of_images
from labeldep_cli.ingest.values import are_counts, holds_values, numbers_doubt

_PATHS = (
    *("path", "filepath", "imagepath", "imgpath", "file", "filename", "image", "img", "imagename", "imgname"),
    *("imagefile", "imageindex", "photo", "picture", "imageid", "imgid", "id", "name", "url", "imageurl"),
)
"""Names of columns with the image, in lower case, letters alone; likelier ones first."""

_PROBED = 200
_LOOKED_UP = 5


@dataclass(frozen=True)
class Columns:
    """The positions of the columns that are read.

    Attributes:
        path: of the image.
        listed: of the list of labels; None if each label has its own column.
        labels: of the labels that have their own column.
        split, group, fold: of these; None if there is none.
        ignored: names of the columns that are not read.
    """

    path: int
    listed: int | None
    labels: tuple[int, ...]
    split: int | None
    group: int | None
    fold: int | None
    ignored: tuple[str, ...]


def columns_of(sheet: Sheet, reading: Reading, how: ImportConfig) -> Columns:
    """Find the columns: those that flags name, else by their names and cells.

    Args:
        sheet: a table with a header.
        reading: the user's flags, for the commands in remedies.
        how: the same flags, with what the form defines.

    Raises:
        DatasetError: a flag names no column, two columns have one name, or there is no image or no label.
    """
    header = sheet.header
    if twice := next((name for name, n in Counter(header).items() if name and n > 1), None):
        raise DatasetError(f"{sheet.file}: there are two columns {twice!r}", "Merge the two, or rename one.")
    path = path_column(sheet, reading, how)
    rest = [k for k in range(len(header)) if k != path and header[k] not in how.ignore_columns]
    rest = [k for k in rest if header[k] and not _is_index(sheet, k)]
    split = split_column(sheet, reading, how, rest)
    group = named_column(sheet, how.group_column) if how.group_column else _called("group", sheet, rest)
    fold = _called("fold", sheet, [k for k in rest if header[k] not in how.label_columns])
    if fold is not None and not all(cell.isdecimal() for cell in set(sheet.column(fold))):
        fold = None
    listed, labels = _labels(sheet, reading, how, [k for k in rest if k not in (split, group, fold)])
    read = {path, split, group, fold, listed, *labels}
    ignored = tuple(name or f"column {k + 1}" for k, name in enumerate(header) if k not in read)
    if labels and not how.label_columns:
        unnamed = None if how.group_column else group
        usual = csv_columns.Columns(header, path, split, unnamed, fold, None, None, labels, ())
        if doubt := label_columns_doubt(usual, set() if unnamed is None else set(sheet.column(unnamed))):
            if how.split_column:
                doubt = replace(doubt, answers=tuple(a for a in doubt.answers if "split_column" not in a.flags))
            raise question(doubt, reading.source, reading.config)
    return Columns(path, listed, labels, split, group, fold, ignored)


def with_one_list(sheet: Sheet, reading: Reading) -> Sheet:
    """Join columns such as tag1 and tag2, which have one name of a label each, to one list; else the sheet itself."""
    words = [letters(name) for name in sheet.header]
    parts = [k for k, word in enumerate(words) if word in LIST_NAMES and words.count(word) > 1]
    if len({words[k] for k in parts}) != 1 or any(holds_values(sheet.column(k)) for k in parts):
        return sheet
    reading.understood.append(f"the columns {some([sheet.header[k] for k in parts])} list the labels together")
    kept = [k for k in range(len(words)) if k not in parts[1:]]
    rows = [
        [";".join(row[i] for i in parts if row[i]) if k == parts[0] else row[k] for k in kept] for row in sheet.rows
    ]
    return replace(sheet, header=tuple(sheet.header[k] for k in kept), rows=rows)


def require_ignored(reading: Reading, columns: Collection[str]) -> None:
    """Require that --ignore-columns names columns or labels.

    Args:
        reading: what was read.
        columns: the names of all columns.

    Raises:
        DatasetError: a name is neither.
    """
    names = {name for entry in reading.entries for name in entry.values} if reading.config.ignore_columns else set()
    for ignored in reading.config.ignore_columns:
        if ignored not in columns and not any(ignored in name for name in names):
            raise DatasetError(
                f"{reading.source} has no column and no label {ignored!r} to leave out",
                nearest(ignored, [*columns, *names]),
            )


def name_images(cells: Iterable[str]) -> bool:
    """Whether cells are names of image files."""
    some = [cell for cell in cells if cell][:_PROBED]
    return bool(some) and sum(map(is_image_name, some)) > 0.9 * len(some)


def path_column(sheet: Sheet, reading: Reading, how: ImportConfig) -> int:
    """The column of the images: the one that a flag names, else the one whose cells or name say so.

    Raises:
        DatasetError: there is none.
    """
    if how.path_column:
        return named_column(sheet, how.path_column)
    found = images_column(sheet.header, sheet.rows[:_PROBED])
    if found is not None:
        return found
    on_disk = _naming_files(sheet, reading)
    if len(on_disk) == 1:
        reading.understood.append(f"the column {sheet.header[on_disk[0]]!r} names images that are there")
        return on_disk[0]
    answers = tuple(
        Answer(f"If {sheet.header[k]!r} names them", {"path_column": sheet.header[k]})
        for k in (on_disk or [k for k, name in enumerate(sheet.header) if name and len(set(sheet.column(k))) > 1])[:3]
    )
    asked = Doubt(f"no column seems to name images; there are {some(sheet.header)}", answers)
    raise question(asked, reading.source, reading.config)


def images_column(header: Sequence[str], rows: Sequence[Sequence[str]]) -> int | None:
    """The column whose cells are names of image files, or whose name says so; None if there is none."""
    rank = {name: number for number, name in enumerate(_PATHS)}
    order = sorted(range(len(header)), key=lambda k: rank.get(letters(header[k]), len(rank)))
    images = [k for k in order if name_images(row[k] for row in rows)]
    named = [k for k in order if letters(header[k]) in rank]
    return next(iter(images or named), None)


def _naming_files(sheet: Sheet, reading: Reading) -> list[int]:
    """The columns whose first cells are images on this disk."""
    finder = ImageFinder(reading.config, folders_of_images(sheet.file, reading.source))
    starts = {k: [row[k] for row in sheet.rows[:_LOOKED_UP]] for k in range(len(sheet.header))}
    return [k for k, cells in starts.items() if cells and all(cell and finder.find(cell) != cell for cell in cells)]


def split_column(sheet: Sheet, reading: Reading, how: ImportConfig, rest: Sequence[int]) -> int | None:
    """The column of the splits among the rest; None if there is none.

    Raises:
        DatasetError: a column is called so, but has other cells.
    """
    if how.split_column:
        return named_column(sheet, how.split_column)
    free = [k for k in rest if sheet.header[k] not in (*how.label_columns, how.labels_column)]
    return next((k for k in free if is_split_column(sheet.header[k], set(sheet.column(k)), reading)), None)


def _labels(
    sheet: Sheet, reading: Reading, how: ImportConfig, rest: Sequence[int]
) -> tuple[int | None, tuple[int, ...]]:
    """The column that lists labels, and the columns of one label each; one of the two is empty.

    Raises:
        DatasetError: there are none.
    """
    if how.labels_column and reading.config.label_columns:
        raise DatasetError("--labels-column and --label-columns exclude each other", "Name a list, or columns.")
    if how.labels_column:
        return named_column(sheet, how.labels_column), ()
    if how.label_columns:
        return None, tuple(named_column(sheet, name) for name in how.label_columns)
    multi_hot = tuple(k for k in rest if holds_values(sheet.column(k)))
    if multi_hot:
        multi_hot = tuple(k for k in rest if k in multi_hot or not any(sheet.column(k)))
    lists = [k for k in rest if k not in multi_hot and letters(sheet.header[k]) in LIST_NAMES]
    if not lists and not multi_hot and len(rest) == 1:
        lists = [rest[0]]
    if len(lists) > 1 or not (lists or multi_hot):
        if not lists and (doubt := numbers_doubt(sheet, rest)):
            raise question(doubt, reading.source, reading.config)
        spare = [sheet.header[k] for k in lists or rest]
        asked = Doubt(
            f"which column has the labels: {some(spare)}?" if spare else "no column is left for labels",
            tuple(Answer(f"If it is {name!r}", {"labels_column": name}) for name in spare[:3]),
            "--label-columns names them if each label has its own column.",
        )
        raise question(asked, reading.source, reading.config)
    if multi_hot and (doubt := _counts_doubt(sheet, rest, multi_hot)):
        raise question(doubt, reading.source, reading.config)
    if lists and multi_hot:
        return _of_both(sheet, reading, lists[0], multi_hot)
    return (lists[0], ()) if lists else (None, multi_hot)


def _counts_doubt(sheet: Sheet, rest: Sequence[int], multi_hot: Sequence[int]) -> Doubt | None:
    """Ask about columns that have larger numbers than the columns of 0 and 1 beside them: both may count something."""
    counting = [k for k in rest if k not in multi_hot and are_counts(set(sheet.column(k)))]
    counting = [k for k in counting if not tells_something_else(sheet.header[k])]
    if not counting:
        return None
    labels = tuple(sheet.header[k] for k in rest if k in multi_hot or k in counting)
    certain = tuple(sheet.header[k] for k in multi_hot)
    return Doubt(
        f"beside columns of 0 and 1, {some([sheet.header[k] for k in counting])} have larger numbers: are they labels?",
        (
            Answer("If so, and a label is present from 1 on", {"label_columns": labels, "threshold": 1.0}),
            Answer(f"If only {some(certain)} are labels", {"label_columns": certain}),
        ),
    )


def _of_both(
    sheet: Sheet, reading: Reading, listed: int, multi_hot: tuple[int, ...]
) -> tuple[int | None, tuple[int, ...]]:
    """Of columns of one label each and a list that says the same, the columns.

    Raises:
        DatasetError: the list has other labels.
    """
    columns = [sheet.header[k] for k in multi_hot]
    of_list = {name for names in read_cells(sheet.column(listed)).label_sets for name in names}
    of_list |= (
        {part for name in of_list for part in re.split(r"[|,/\s]+", name)} if not of_list <= set(columns) else set()
    )
    if of_list & set(columns):
        reading.understood.append(f"the labels of the column {sheet.header[listed]!r} are read from their own columns")
        return None, multi_hot
    asked = Doubt(
        f"the column {sheet.header[listed]!r} lists labels, and {some(columns)} look like labels too",
        (
            Answer("If the list has the labels", {"labels_column": sheet.header[listed]}),
            Answer("If the columns have them", {"label_columns": tuple(columns)}),
        ),
    )
    raise question(asked, reading.source, reading.config)


def _is_index(sheet: Sheet, k: int) -> bool:
    """Whether a column numbers the rows."""
    cells = sheet.column(k)
    numbers = cells[:1] in (["0"], ["1"]) and cells == [str(i + int(cells[0])) for i in range(len(cells))]
    return numbers and len(cells) > 2


def _called(name: str, sheet: Sheet, rest: Sequence[int]) -> int | None:
    return next((k for k in rest if sheet.header[k].lower() == name), None)


def named_column(sheet: Sheet, name: str) -> int:
    """The column that a flag names.

    Raises:
        DatasetError: there is none of this name.
    """
    if name not in sheet.header:
        raise DatasetError(f"{sheet.file} has no column {name!r}", nearest(name, sheet.header))
    return sheet.header.index(name)
