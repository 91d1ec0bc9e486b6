"""Leaves out a PNG's text, which Pillow unpacks into memory before it decodes a pixel, and refuses if it is long."""

from __future__ import annotations

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
_ROTATION = (b"Raw profile type exif\0", b"XML:com.adobe.xmp\0")
"""Texts that may tell how the image is rotated."""


def without_text(content: bytes) -> bytes:
    """A PNG without its texts and its colour profile, except for those that may tell its rotation.

    Args:
        content: the bytes of a PNG, whole or damaged.
    """
    kept, start, place = [], 0, len(SIGNATURE)
    while place + 12 <= len(content):
        kind = content[place + 4 : place + 8]
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if kind in _TEXT and not content.startswith(_ROTATION, place + 8):
            kept.append(content[start:place])
            start = end
        place = end
    return b"".join([*kept, content[start:]]) if kept else content
