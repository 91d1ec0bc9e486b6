"""`corrections.csv`: the file of decisions, beside the table that they are about.

    time,who,table,path,before,after,unknown_before,unknown_after,content,decision
    2026-11-29T17:20:03Z,ada,labels.csv,a.jpg,beach;person,beach,,,,accept

Lines are only ever appended, each is on the disk before the next decision is taken, and none is changed: to take a
decision back is a decision too. `decision` is the last column, so that a line that a kill has cut off is recognised.
"""

from __future__ import annotations

import csv
import io
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from labeldep_cli.datasets.cell_text import csv_line, list_cell, text_cell, text_of
from labeldep_cli.datasets.decisions import KINDS, Decision, LabelSet
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import lock, storing, sync_folder
from labeldep_cli.schemas import conform, parse_json

FILE = "corrections.csv"
"""The name of the file."""

HEADER = (
    "time",
    "who",
    "table",
    "path",
    "before",
    "after",
    "unknown_before",
    "unknown_after",
    "content",
    "decision",
)
_DELIMITERS = (",", ";", "\t")
_REMEDY = "--no-corrections opens the data set without its decisions."
_LONGEST = 100_000_000  # characters of a cell; a list may have thousands of labels, of which most are unknown
_PATIENCE = 30.0  # seconds to wait for another process that writes a line
_WRITING = threading.Lock()  # the lock of a file is the process's: it does not keep two of its threads apart


def read(file: Path) -> tuple[Decision, ...]:
    """The decisions of a file in order; none if there is no file.

    A last line that is cut off is left out: it was never confirmed to anybody.

    Raises:
        DatasetError: the file cannot be read, or is none of decisions; names the line.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
    return parse(content, file)


def parse(content: bytes, file: Path) -> tuple[Decision, ...]:
    """As `read`, of the bytes of a file; `file` is for messages."""
    contents = _Contents.of(content, file)
    try:
        lines = list(_rows(contents.text, contents.delimiter))
    except csv.Error as error:
        raise DatasetError(f"{file} is damaged: {error}", _REMEDY) from None
    decisions = []
    for number, fields in enumerate(lines[1:], start=2):
        if any(fields):
            try:
                decisions.append(_decision(fields))
            except ValueError as error:
                raise DatasetError(f"{file}, line {number}: {error}", f"Mend or remove the line. {_REMEDY}") from None
    return tuple(decisions)


class _Contents(NamedTuple):
    """What a file has, without a last line that is cut off.

    Attributes:
        text: its whole lines; empty if there is not even a header.
        size: their length in bytes.
        delimiter: between cells; a spreadsheet may have saved the file with another one than the comma.
    """

    text: str
    size: int
    delimiter: str

    @staticmethod
    def of(content: bytes, file: Path) -> _Contents:
        """Check the bytes of a file by its header; `file` is for messages.

        Raises:
            DatasetError: it is no file of decisions, or not in UTF-8.
        """
        end = content.rfind(b"\n") + 1
        if not end and csv_line(HEADER).encode().startswith(content):
            return _Contents("", 0, ",")
        body, tail = (content[:end], content[end:]) if end else (content, b"")
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DatasetError(f"{file} is not in UTF-8", f"Save it as CSV in UTF-8. {_REMEDY}") from None
        delimiter = next((mark for mark in _DELIMITERS if _header(text, mark) == HEADER), None)
        if delimiter is None:
            raise DatasetError(
                f"{file} is no list of decisions of `labeldep review`: its first line is not {','.join(HEADER)}",
                f"Rename it if it is a file of your own. {_REMEDY}",
            )
        if tail and _is_whole(tail, delimiter):
            return _Contents(text + tail.decode(), len(content), delimiter)
        return _Contents(text, len(body), delimiter)


def _header(text: str, delimiter: str) -> tuple[str, ...]:
    try:
        return tuple(next(_rows(text, delimiter), ()))
    except csv.Error:
        return ()


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(_LONGEST)
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


def append(file: Path, decisions: Iterable[Decision]) -> int:
    """Append decisions, and return the number of bytes when they are on the disk.

    What a kill left of a line is removed first. Other processes that append to the file wait.

    Raises:
        StorageError: the file cannot be written, or another process writes it all the time.
        DatasetError: it is a file of another kind.
    """
    added = list(decisions)
    if not added:
        return 0
    with _WRITING, lock(_lock_of(file), str(file), _PATIENCE), storing(file):
        is_new = not file.exists()
        with file.open("a+b") as stream:
            stream.seek(0)
            content = stream.read()
            text, size, delimiter = _Contents.of(content, file)
            if size < len(content):
                stream.truncate(size)
            start = "" if text.endswith(("\n", "\r")) else "\n" if text else csv_line(HEADER)
            lines = "".join([start, *(csv_line(_fields(decision), delimiter) for decision in added)]).encode()
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())
        if is_new:
            sync_folder(file.parent)
    return len(lines)


def require_writable(file: Path) -> None:
    """Require that decisions can be appended to a file; it need not be there.

    Raises:
        StorageError: they cannot.
    """
    with _WRITING, lock(_lock_of(file), str(file), _PATIENCE), storing(file):
        if file.exists():
            file.open("r+b").close()


def _lock_of(file: Path) -> Path:
    return file.with_name(f".{file.name}.lock")


def _is_whole(line: bytes, delimiter: str) -> bool:
    """Whether a line without a line end has all of its cells, as one that an editor wrote."""
    try:
        (fields,) = _rows(line.decode(), delimiter)
        _decision(fields)
    except (ValueError, csv.Error):
        return False
    return True


def _fields(decision: Decision) -> list[str]:
    """The cells of a decision's line, in the order of HEADER."""
    before, after = decision.before, decision.after
    lists = (before.present, after.present, before.unknown, after.unknown)
    texts = (decision.time, decision.who, decision.table, decision.path)
    return [*map(text_cell, texts), *map(list_cell, lists), decision.content, decision.decision]


def _decision(fields: Sequence[str]) -> Decision:
    """The decision of a line.

    Raises:
        ValueError: the cells are not those of a decision.
    """
    if len(fields) != len(HEADER):
        raise ValueError(f"{len(fields)} fields, not {len(HEADER)}")
    time, who, table, path = map(text_of, fields[:4])
    before, after, unknown_before, unknown_after = map(_list_of, fields[4:8])
    kind = next((kind for kind in KINDS if kind == fields[9].strip()), None)
    if kind is None:
        raise ValueError(f"the decision {fields[9]!r} is none of {', '.join(KINDS)}")
    if not path:
        raise ValueError("the path is empty")
    before_set, after_set = LabelSet(before, unknown_before), LabelSet(after, unknown_after)
    return Decision(time, who, table, path, kind, before_set, after_set, fields[8])


def _list_of(cell: str) -> tuple[str, ...]:
    """The names of a cell.

    Raises:
        ValueError: the cell is no list of names.
    """
    if not cell.startswith("["):
        return tuple(name for name in map(str.strip, cell.split(";")) if name)
    return tuple(conform(parse_json(cell), list[str], "a list of names"))
