"""NUS-WIDE's list of the URLs of its photos, NUS-WIDE-urls.txt."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.errors import DatasetError

_LINE = re.compile(r"(?P<file>\S.*\.jpg)\s+\d+\s+(?P<urls>\S.*)", re.IGNORECASE)
_PREFERRED = (1, 0, 3, 2)
"""The order in which the four URLs (large, middle, small, original) are tried: middle, 500 pixels, is enough for any
backbone."""


@dataclass(frozen=True)
class Photo:
    """A photo in the list: its path below Flickr/, and its URLs, the preferred one first."""

    path: str
    urls: tuple[str, ...]


def read_urls(file: Path, paths: Collection[str]) -> Iterator[Photo]:
    r"""Yield the photos whose path is in `paths`, one for each of their lines, without loading the list into memory.

    A line is `C:\ImageData\Flickr\actor\0001_2124494179.jpg  2124494179  LARGE  MIDDLE  SMALL  ORIGINAL`. A missing
    URL is `null`. The header line begins with percent signs.

    Raises:
        DatasetError: the file cannot be read, or none of its lines has this form.
    """
    valid_lines = 0
    try:
        with file.open(encoding="utf-8-sig", errors="replace") as lines:
            for line in lines:
                match = _LINE.fullmatch(line.strip())
                if match is None:
                    continue
                valid_lines += 1
                path = "/".join(match["file"].replace("\\", "/").split("/")[-2:])
                if path in paths and not {"", ".", ".."} & set(path.split("/")):
                    yield Photo(path, _urls(match["urls"].split()))
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Name NUS-WIDE's NUS-WIDE-urls.txt.") from None
    if not valid_lines:
        raise DatasetError(
            f"{file} has no line of the form FILE.jpg ID URL URL URL URL",
            "Name NUS-WIDE's list, NUS-WIDE-urls.txt, unpacked.",
        )


def _urls(fields: list[str]) -> tuple[str, ...]:
    urls = [fields[k] for k in _PREFERRED] if len(fields) == len(_PREFERRED) else fields
    return tuple(url for url in urls if url.startswith(("http://", "https://")))
