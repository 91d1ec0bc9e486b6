"""Read JSON that other programs have written: whole files, or only their beginnings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from labeldep_cli.errors import DatasetError

_HEAD = 1 << 18
"""Bytes that are read to recognise a file."""

_RECORDS = 50
"""Entries of a list that are read to recognise a file."""


def read_json(file: Path, encoding: str | None = None, bulk: Collection[str] = (), floats: bool = True) -> Any:  # noqa: ANN401
    """The value of a JSON file.

    Args:
        file: the file.
        encoding: of its text; None for UTF-8.
        bulk: keys to leave out of all objects while they are read: they would fill the memory.
        floats: whether to parse numbers with a point; otherwise they stay text, which is several times faster.

    Raises:
        DatasetError: it cannot be read, is not JSON, or an object has a key twice.
    """
    try:
        with file.open(encoding=encoding or "utf-8-sig") as stream:
            return json.load(stream, object_pairs_hook=unique_keys(file, bulk), parse_float=float if floats else str)
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
    except (UnicodeError, LookupError):
        raise DatasetError(
            f"{file} is not text in {encoding or 'UTF-8'}", "Name its encoding, such as --encoding utf-16."
        ) from None
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"{file} is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            "It may be cut off: export or download it again.",
        ) from None
    except RecursionError:
        raise DatasetError(f"{file} is nested too deeply", "Check the file.") from None
    except ValueError as error:  # a number with thousands of digits
        raise DatasetError(f"{file} cannot be read: {error}", "Correct the number.") from None


def unique_keys(where: object, bulk: Collection[str] = ()) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    """A hook for `json` that makes objects and refuses those with a key twice, of which `json` keeps the last.

    Args:
        where: the file, or the file and the line, for the message.
        bulk: keys to leave out.
    """

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            shown = json.dumps(dict(pairs[:1]), ensure_ascii=False)[1:80]
            raise DatasetError(
                f"{where}: the key {twice!r} stands twice in the object that begins with {shown}",
                "Keep one of the two.",
            )
        for key in bulk:
            made.pop(key, None)
        return made

    return make


def head_of(file: Path) -> str:
    """The beginning of a text file; empty if it cannot be read as text."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_HEAD)
    except OSError:
        return ""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="ignore")
    return content.decode("utf-8-sig", errors="replace")


def first_key(head: str) -> str | None:
    """The first key of a JSON object that begins so; None if it is no object."""
    match = re.match(r'\s*\{\s*("(?:[^"\\]|\\.)*")\s*:', head)
    return str(json.loads(match[1])) if match else None


def first_values(head: str) -> list[Any]:
    """The first elements of a JSON list that begins so, or the first lines if each is a JSON object."""
    decoder = json.JSONDecoder()
    position = len(head) - len(head.lstrip())
    if head[position : position + 1] == "[":
        position += 1
    values: list[Any] = []
    while len(values) < _RECORDS:
        position += len(head[position:]) - len(head[position:].lstrip(" \t\r\n,"))
        try:
            value, position = decoder.raw_decode(head, position)
        except (ValueError, RecursionError):
            break
        values.append(value)
    return values
