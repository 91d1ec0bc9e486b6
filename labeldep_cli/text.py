r"""Names are data: how a text with names of labels and files in it is shown, and how it becomes JSON."""

from __future__ import annotations

import codecs
import json
import re
import unicodedata
from typing import Any

_TURNING = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
"""Characters that change the direction of what follows."""

_BREAKING = {"\u2028", "\u2029"}
"""Characters that some programs take for the end of a line."""


def visible(text: str, lines: bool = False, file_bytes: bool = False) -> str:
    r"""A text with its hidden characters escaped, so that a name cannot colour, move, break or reverse what is shown.

    Escaped are control characters, those that turn the direction or end a line, and halves of characters: `\x1b`.
    Emoji, accents and all scripts stay.

    Args:
        text: any text.
        lines: line ends stay.
        file_bytes: bytes of file names that are not UTF-8 stay, unless a terminal may take them for control characters.
            Python reads them as lone surrogates.
    """
    if text.isprintable():
        return text
    kept = ("\n" if lines else "") + ("".join(map(chr, range(0xDCA0, 0xDD00))) if file_bytes else "")
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if is_hidden(character) and character not in kept
        else character
        for character in text
    )


def is_hidden(character: str) -> bool:
    """Whether a program may obey a character rather than show it, or cannot write it."""
    return unicodedata.category(character) in ("Cc", "Cs") or character in _TURNING or character in _BREAKING


def is_utf8(text: str) -> bool:
    """Whether a text can be written in UTF-8; the name of a file on the disk may be other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_HIDDEN_IN_JSON = re.compile(f"[\x7f-\x9f\ud800-\udfff{''.join(sorted(_TURNING | _BREAKING))}]")
"""What JSON itself leaves as it is. It is within strings."""


def json_text(value: Any, indent: int | None = None) -> str:  # noqa: ANN401 - any JSON value
    r"""A value as JSON, readable and of the same value, in which `is_hidden` characters are escaped: `\u001b`.

    So it is one line for every program, it can always be written in UTF-8, and a terminal obeys nothing in it.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return text if text.isprintable() else _HIDDEN_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _write_anyway(error: UnicodeError) -> tuple[bytes, int]:
    """What is written for characters that an encoding lacks: the bytes of a file name, else escapes as in JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return b"".join(map(_bytes_of, part)), error.end


def _bytes_of(character: str) -> bytes:
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00])
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[k : k + 2].hex()}" for k in range(0, len(units), 2)).encode("ascii")


WRITE_ANYWAY = "labeldep.write_anyway"
"""The name of the error handler for streams: see `_write_anyway`."""

codecs.register_error(WRITE_ANYWAY, _write_anyway)
