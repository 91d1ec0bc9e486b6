"""Read a user's file as text."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.errors import DatasetError

_WESTERN = ("cp1252", "latin-1")
"""Encodings of western Europe, the first of which is tried first: any text can be read as the last one."""


def read_text(file: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        DatasetError: it cannot be read, or is not UTF-8.
    """
    content = _content(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _encoding_doubt(content, error.start).error(file) from None


def _encoding_doubt(content: bytes, at: int) -> Doubt:
    """Ask for the encoding of a text that is not UTF-8 from byte `at` on."""
    what, otherwise = f"it is not UTF-8: byte {at} is 0x{content[at]:02x}", "Or save it as UTF-8."
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return Doubt(f"{what}; it begins as UTF-16", (Answer("To read it so", {"encoding": "utf-16"}),), otherwise)
    word = re.search(rb"[^\s,;|\t\"]*$", content[:at])[0] + re.match(rb"[^\s,;|\t\"]*", content[at:])[0]  # type: ignore[index]
    for encoding in _WESTERN:
        try:
            read = word.decode(encoding)
        except UnicodeDecodeError:
            continue
        return Doubt(what, (Answer(f"If {read!r} is right, it is {encoding}", {"encoding": encoding}),), otherwise)
    return Doubt(what, (), otherwise)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
