"""Read a user's file as text."""

from __future__ import annotations

from pathlib import Path

from labeldep_cli.errors import DatasetError


def read_text(file: Path) -> str:
    """The text of a file, without a byte order mark.

    Raises:
        DatasetError: it cannot be read, or is not UTF-8.
    """
    content = _content(file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{file} is not UTF-8: byte {error.start} is 0x{content[error.start]:02x}", "Save it as UTF-8."
        ) from None


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None
