"""Where the bytes of an image are: in a file, within a tar, or in memory."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

IMAGE_SUFFIXES = {
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "mpo", "png", "apng", "gif", "bmp", "dib", "webp", "tif", "tiff", "ppm", "pgm"),
        *("pbm", "pnm", "jp2", "j2k", "avif", "heic", "heif", "hif", "tga", "ico"),
    )
}
"""The endings of image names, where images are recognised by name."""


@dataclass(frozen=True)
class Member:
    """An image within an uncompressed tar, from which it is read without unpacking.

    Attributes:
        tar: the tar.
        key: the image's name there, for messages.
        offset, size: the position and number of its bytes.
    """

    tar: Path
    key: str
    offset: int
    size: int

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """The image's bytes as a stream, like `Path.open`."""
        with self.tar.open(mode) as stream:  # opened for each image: workers must not share the position in a file
            stream.seek(self.offset)
            return io.BytesIO(stream.read(self.size))

    def __str__(self) -> str:
        return f"{self.tar}: {self.key}"


@dataclass(frozen=True)
class InMemory:
    """An image that is given as bytes."""

    content: bytes

    @property
    def size(self) -> int:
        """The number of bytes."""
        return len(self.content)

    def open(self, mode: Literal["rb"]) -> BinaryIO:
        """The image's bytes as a stream, like `Path.open`."""
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return f"{self.size} bytes in memory"


ImageFile = Path | Member | InMemory


def size_of(file: ImageFile) -> int:
    """The size of an image in bytes.

    Raises:
        OSError: there is no such file, or its size may not be read.
    """
    return file.stat().st_size if isinstance(file, Path) else file.size


class FileState(NamedTuple):
    """The state of an image's file. If it is unchanged, so are the bytes; version control makes the same assumption.

    Attributes:
        key: identifies the image on this machine: its absolute path, and its position within a tar.
        size: of its file, in bytes.
        mtime_ns: time of the last change of its file, in nanoseconds.
    """

    key: bytes
    size: int
    mtime_ns: int


def key_of(file: ImageFile) -> bytes:
    """The key that identifies an image on this machine; empty for an image in memory."""
    if isinstance(file, InMemory):
        return b""
    if isinstance(file, Member):
        return b"%s\0%d:%d" % (os.fsencode(file.tar.absolute()), file.offset, file.size)
    return os.fsencode(file if file.is_absolute() else file.absolute())


def file_of(key: bytes) -> Path | Member:
    """The image that `key_of` named."""
    path, _, place = key.partition(b"\0")
    if not place:
        return Path(os.fsdecode(path))
    offset, size = place.split(b":")
    return Member(Path(os.fsdecode(path)), place.decode(), int(offset), int(size))


def is_gone(file: Path | Member) -> bool:
    """Whether there is certainly no such file: one that may not be looked at is taken to be there."""
    try:
        (file.tar if isinstance(file, Member) else file).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def state_of(file: ImageFile) -> FileState | None:
    """The state of an image's file, without reading it; None if the file is missing, forbidden, or in memory."""
    if isinstance(file, InMemory):
        return None
    try:
        status = (file.tar if isinstance(file, Member) else file).stat()
    except (OSError, ValueError):  # ValueError: a null byte in the path
        return None
    return FileState(key_of(file), status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Members:
    """The positions of N images within tars, as arrays: a million objects would take much memory in every worker.

    Attributes:
        tars: the T tars.
        tar: int32 [N], 0..T-1, the tar of each image.
        offset, size: int64 [N], the position and number of its bytes there.
    """

    tars: tuple[Path, ...]
    tar: NDArray[np.int32]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]

    def file(self, row: int, key: str) -> Member:
        """The image of a row; `key` is the row's name."""
        return Member(self.tars[self.tar[row]], key, int(self.offset[row]), int(self.size[row]))

    def subset(self, rows: NDArray[np.integer]) -> Members:
        """The given rows, in the given order."""
        return Members(self.tars, self.tar[rows], self.offset[rows], self.size[rows])
