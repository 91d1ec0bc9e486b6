"""NUS-WIDE's own list of where its photos lie, NUS-WIDE-urls.txt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.errors import DatasetError

_LINE = re.compile(r"(?P<file>\S.*\.jpg)\s+\d+\s+(?P<urls>\S.*)", re.IGNORECASE)
_PREFERRED = (1, 0, 3, 2)
"""Of the four URLs large, middle, small, original: middle (500 pixels) is all that a backbone sees."""


@dataclass(frozen=True)
class Photo:
    """A photo of the list: its path below Flickr/, and its URLs, the preferred one first."""

    path: str
    urls: tuple[str, ...]


def read_urls(file: Path, wanted: Collection[str]) -> Iterator[Photo]:
    r"""Yield the photos that are wanted, one for each of their lines, without holding the list in memory.

    A line is `C:\ImageData\Flickr\actor\0001_2124494179.jpg  2124494179  LARGE  MIDDLE  SMALL  ORIGINAL`, a URL that is
    lacking is `null`, and the head line begins with percent signs.

    Raises:
        DatasetError: there is no such file, or no line of it is such a line.
    """
    understood = 0
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in lines:
                found = _LINE.fullmatch(line.strip())
                if found is None:
                    continue
                understood += 1
                path = "/".join(found["file"].replace("\\", "/").split("/")[-2:])
                if path in wanted and not {"", ".", ".."} & set(path.split("/")):
                    yield Photo(path, _urls(found["urls"].split()))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Name NUS-WIDE's NUS-WIDE-urls.txt.") from None
    if not understood:
        raise DatasetError(
            f"{file} has no line of the form FILE.jpg ID URL URL URL URL",
            "Name NUS-WIDE's own list, NUS-WIDE-urls.txt, unpacked.",
        )


def _urls(fields: list[str]) -> tuple[str, ...]:
    in_order = [fields[k] for k in _PREFERRED] if len(fields) == len(_PREFERRED) else fields
    return tuple(url for url in in_order if url.startswith(("http://", "https://")))
