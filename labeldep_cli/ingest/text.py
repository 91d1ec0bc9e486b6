"""The text of a foreign file: compressed or not, in the encoding that it has."""

from __future__ import annotations

import codecs
import gzip
import zlib
from functools import lru_cache
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.errors import DatasetError
from labeldep_cli.ingest.again import import_again

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GZIP = b"\x1f\x8b"
_NO_TEXT = (
    (b"PK\x03\x04", "an Excel file or a zip", "Save the sheet as CSV, or unpack the zip."),
    (b"\xd0\xcf\x11\xe0", "an Excel file", "Save the sheet as CSV."),
    (b"PAR1", "a parquet file", "Name it with the ending .parquet."),
    (b"\x89HDF", "an HDF5 file", "Name it with the ending .h5 if it has ready features."),
    (b"SQLite format 3", "a database", "Export the table as CSV."),
    (b"%PDF", "a PDF", "Export the table as CSV."),
    (b"\x80\x04", "a pickle, which could run code", "Save the table as CSV."),
    (b"\x80\x05", "a pickle, which could run code", "Save the table as CSV."),
)
_HEAD = 1 << 16
"""Bytes that are enough to recognise a form."""


def read_text(file: Path, config: ImportConfig, source: Path) -> tuple[str, list[str]]:
    """The text of a file, and what was understood about it, a sentence each.

    Args:
        file: in plain text or compressed by gzip.
        config: its `encoding`; None for the file's mark, else UTF-8.
        source: what the user imports: this file or its folder.

    Raises:
        DatasetError: it cannot be read, is no text, or has another encoding.
    """
    content = _content(file)
    encoding = config.encoding or _marked(content) or "utf-8"
    try:
        text = content.decode(encoding)
        if encoding == "utf-8" and _is_unmarked_utf16(content):
            raise UnicodeDecodeError(encoding, content, content.index(b"\0"), len(content), "it is UTF-16")
    except LookupError:
        raise DatasetError(f"there is no encoding {encoding!r}", "Common ones: utf-8, cp1252, utf-16.") from None
    except UnicodeDecodeError as error:
        raise _undecodable(file, content, error, config, source) from None
    notes = [] if encoding in ("utf-8", "utf-8-sig") else [f"the text is read as {encoding}"]
    if n_nul := text.count("\0"):
        text = text.replace("\0", "")
        notes.append(f"NUL characters removed: {n_nul}")
    return text, notes


def head_of(file: Path) -> str:
    """The beginning of a file as text, for recognising its form; empty if it is a folder or no text."""
    try:
        stat = file.stat()
    except OSError:
        return ""
    return _head(file.absolute(), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _head(file: Path, size: int, changed: int) -> str:
    """The beginning of a file, remembered as long as its size and time stay: each form looks at it."""
    try:
        with (gzip.open if _is_gzip(file) else open)(file, "rb") as stream:
            content = stream.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return ""
    no_text = 10 * content.count(b"\0") > len(content) and _marked(content) is None
    if no_text or any(content.startswith(magic) for magic, _, _ in _NO_TEXT):
        return ""
    return content.decode(_marked(content) or "utf-8", errors="replace")


def _is_gzip(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(2) == _GZIP


def _content(file: Path) -> bytes:
    try:
        content = file.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DatasetError(f"{file} cannot be read: {why}", "Check the file and its permissions.") from None
    for magic, what, remedy in _NO_TEXT:
        if content.startswith(magic):
            raise DatasetError(f"{file} is {what}, not a table in plain text", remedy)
    return content


def _marked(content: bytes) -> str | None:
    """The encoding that the mark at the beginning names."""
    return next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)


def _is_unmarked_utf16(content: bytes) -> bool:
    """Whether nearly every second byte is zero, as in Western text in UTF-16, and no other."""
    start = content[:_HEAD]
    zeros = sorted((start[::2].count(0), start[1::2].count(0)))
    return zeros[0] == 0 and zeros[1] > 0.4 * len(start)


def _undecodable(
    file: Path, content: bytes, error: UnicodeDecodeError, config: ImportConfig, source: Path
) -> DatasetError:
    if config.encoding is not None:
        return DatasetError(
            f"{file} is not {config.encoding}: {error.reason} at byte {error.start}", "Name another --encoding."
        )
    other = ("utf-16-le" if content[1:2] == b"\0" else "utf-16-be") if _is_unmarked_utf16(content) else "cp1252"
    start = max(content.rfind(b"\n", 0, error.start) + 1, error.start - 20) if other == "cp1252" else 0
    shown = content[start : error.start + 20].decode(other, errors="replace").splitlines()
    return DatasetError(
        f"{file} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}",
        f"As {other} the place reads {shown[0] if shown else ''!r}. If that is right:\n"
        f"{import_again(source, config, encoding=other)}",
    )
