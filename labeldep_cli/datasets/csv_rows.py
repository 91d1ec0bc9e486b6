"""The rows of a CSV, read once and in order."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from labeldep_cli.datasets.cell_text import path_of
from labeldep_cli.datasets.csv_columns import Columns, columns_of
from labeldep_cli.datasets.doubts.columns import KEPT_VALUES
from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt
from labeldep_cli.datasets.missing_images import require_plain_paths
from labeldep_cli.errors import DatasetError


class CsvRows:
    """The rows of a CSV. While they are read, the few columns that are no labels are kept.

    Args:
        file: the CSV, for messages.
        text: its content.

    Attributes:
        columns: recognised by their names.
        paths: the path of each row.
        lines: the line that each row ends in, counted from 1.
        cells: by number, the cells of the columns split, group, fold, listing and remaining.
        seen: by number, up to KEPT_VALUES different cells of each ignored column.

    Raises:
        DatasetError: the header is not one that labeldep reads.
    """

    def __init__(self, file: Path, text: str) -> None:
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise Doubt(
                "there is a NUL, which no path or name can have",
                (Answer("To leave such rows out", {"drop_broken": True}),),
                "Or write the line again.",
                f"line {line}",
            ).error(file)
        self.file, self._text = file, text
        self._reader = csv.reader(io.StringIO(text, newline=""))
        header = next((row for row in self._reader if any(cell.strip() for cell in row)), None)
        if header is None:
            raise DatasetError(f"{file} is empty", "Its first line is the header: path[,split],label,label,...")
        self.columns: Columns = columns_of(file, header)
        self.paths: list[str] = []
        self.lines: list[int] = []
        kept = (self.columns.split, self.columns.group, self.columns.fold, self.columns.listing, self.columns.remaining)
        self.cells: dict[int, list[str]] = {k: [] for k in kept if k is not None}
        self.seen: dict[int, set[str]] = {k: set() for k in self.columns.ignored}

    def __iter__(self) -> Iterator[list[str]]:
        """Yield all fields of each row that is not blank.

        Raises:
            DatasetError: names the line and the problem.
        """
        width, path_column, kept = len(self.columns.header), self.columns.path, tuple(self.cells.items())
        before = self._reader.line_num
        try:
            for row in self._reader:
                line = self._reader.line_num
                if line > before + 1:
                    self._require_closed_quotes(row, before + 1, line)
                before = line
                path = path_of(row[path_column].strip()) if len(row) == width else ""
                if not path:
                    if not any(cell.strip() for cell in row):
                        continue
                    self._refuse(row, line)
                self.paths.append(path)
                self.lines.append(line)
                for k, cells in kept:
                    cells.append(row[k])
                for k, cells_seen in self.seen.items():
                    if len(cells_seen) < KEPT_VALUES:
                        cells_seen.add(row[k])
                yield row
        except csv.Error as error:
            if "field larger" in str(error):  # a quotation mark has swallowed the rest of a large file
                raise self._open_quote(before + 1, self._reader.line_num) from None
            raise DatasetError(
                f"{self.file}, line {self._reader.line_num}: {error}", "Save it as a plain CSV."
            ) from None
        require_plain_paths(self.file, self.paths, self.lines)

    def again(self) -> Iterator[Sequence[str]]:
        """Yield the fields of all rows once more, without the header."""
        reader = csv.reader(io.StringIO(self._text, newline=""))
        rows = (row for row in reader if any(cell.strip() for cell in row))
        next(rows)
        return rows

    def _refuse(self, row: Sequence[str], line: int) -> None:
        if len(row) == len(self.columns.header):
            raise Doubt(
                "the path is empty",
                (Answer("To leave such rows out", {"drop_broken": True}),),
                "Or name an image.",
                f"line {line}",
            ).error(self.file)
        raise Doubt(
            f"{len(row)} fields, but the header has {len(self.columns.header)}",
            (TO_IMPORT,),
            "A CSV has one field per column in every row; a field that contains a comma is in quotes.",
            f"line {line}",
        ).error(self.file)

    def _require_closed_quotes(self, row: Sequence[str], first: int, last: int) -> None:
        """Refuse a cell over several lines that is a path or a list of labels, or that holds whole rows."""
        columns = self.columns
        texts = {k for k in range(len(row)) if k not in columns.ignored}
        commas = len(columns.header) - 1
        for k, cell in enumerate(row):
            inner = cell.splitlines()[1:-1]
            if len(cell.splitlines()) > 1 and (k in texts or any(text.count(",") >= commas for text in inner)):
                raise self._open_quote(first, last)

    def _open_quote(self, first: int, last: int) -> DatasetError:
        return Doubt(
            f"lines {first} to {last} are one row, since a quotation mark in line {first} opens a cell that does not "
            "end there",
            (
                Answer("If quotation marks are plain characters here", {"quotes": False}),
                Answer("If the cell has several lines", {}),
            ),
            f"Or close the cell in line {first}.",
        ).error(self.file)
