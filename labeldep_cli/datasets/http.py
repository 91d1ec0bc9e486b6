"""Files over HTTP: what an answer means, when to ask again, and large files in as many pieces as it takes."""

from __future__ import annotations

import email.utils
import re
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from labeldep_cli import __version__
from labeldep_cli.config import DownloadConfig
from labeldep_cli.errors import DownloadError
from labeldep_cli.files import format_size, storing
from labeldep_cli.progress import Bar, Reporter

_BLOCK = 1 << 16
_MEGABYTE = 1_000_000
_LONGEST_BACKOFF = 60.0  # seconds
_AGENT = f"labeldep/{__version__}"
_DIGITS = re.compile(r"[0-9]+")
_BUSY = {429, 503}
_PASSING = _BUSY | {408, 425, 500, 502, 504}
"""HTTP's words for: another time."""


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        url: where it lies.
        size: its bytes.
        sha256: of its content (hex).
    """

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.url.rsplit("/", 1)[1]


class Refused(Exception):
    """An answer that will be the same the next time, with its HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Broken(Exception):
    """A request that may do better another time.

    Attributes:
        busy: the server asks for fewer requests.
        wait: seconds that it asks to wait, if it says so.
    """

    def __init__(self, reason: str, busy: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.busy = busy
        self.wait = wait


class RetryPolicy:
    """How often to ask again, and how long to wait before each time."""

    def __init__(self, tries: int, how: DownloadConfig) -> None:
        self._tries = tries
        self._how = how
        self._failed = 0

    def after(self, broken: Broken) -> float | None:
        """Seconds to wait before the next try; None where there is to be none."""
        self._failed += 1
        if self._failed >= self._tries or (broken.wait or 0) > self._how.longest_wait:
            return None
        backoff = min(self._how.backoff * 2 ** (self._failed - 1), _LONGEST_BACKOFF)
        return backoff if broken.wait is None else broken.wait

    def renew(self) -> None:
        """Begin to count anew."""
        self._failed = 0


def at_mirror(url: str, mirror: str | None) -> str:
    """The same path at a mirror."""
    return url if mirror is None else mirror.rstrip("/") + urlsplit(url).path


def ask(url: str, timeout: float, start: int = 0) -> HTTPResponse:
    """Ask for a file, from byte `start` on; whether the server heeds that is its `status` 206.

    Raises:
        Refused: the server has no such file, or does not give it.
        Broken: no connection, or a server in trouble.
    """
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        request = urllib.request.Request(url, headers=headers)
        return cast(HTTPResponse, urllib.request.urlopen(request, timeout=timeout))
    except urllib.error.HTTPError as error:
        with error:
            if error.code in _PASSING:
                wait = _asked_wait(error.headers.get("Retry-After"))
                raise Broken(f"HTTP {error.code}", error.code in _BUSY, wait) from None
            raise Refused(error.code) from None
    except (OSError, HTTPException, ValueError) as error:
        raise Broken(str(getattr(error, "reason", error)) or type(error).__name__) from None


def _asked_wait(told: str | None) -> float | None:
    """Seconds of a Retry-After: a number, or a date."""
    if told is None:
        return None
    if _DIGITS.fullmatch(told.strip()):
        return float(told)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return None


def _read(answer: HTTPResponse) -> bytes:
    """What has come of an answer; empty at its end, even where that comes too early."""
    try:
        return answer.read1(_BLOCK)
    except (OSError, HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from None


def read_whole(answer: HTTPResponse, most: int) -> bytes:
    """All bytes of an answer.

    Raises:
        Broken: it ended early, or holds more than `most` bytes.
    """
    content = bytearray()
    while block := _read(answer):
        content += block
        if len(content) > most:
            raise Broken(f"more than {format_size(most)}")
    if len(content) < (_length(answer) or 0):
        raise Broken("the connection ended early")
    return bytes(content)


def fetch(remote: Remote, partial: Path, how: DownloadConfig, reporter: Reporter) -> None:
    """Bring a file of known size to `partial`, going on from the bytes that are there.

    Size and SHA-256 say what the file is, whoever serves it: bytes from one server are gone on with from another. The
    SHA-256 is the caller's to check.

    Raises:
        DownloadError: the server has no such file, has one of another size, or the connection broke too often.
        StorageError: the disk is full or not writable.
    """
    url = at_mirror(remote.url, how.mirror)
    patience = RetryPolicy(how.tries, how)
    with storing(partial), partial.open("ab") as stream:
        if stream.tell() > remote.size:
            _empty(stream)
        have = stream.tell()
        reporter.note(
            f"fetching {url} ({format_size(remote.size)}{f', {format_size(have)} are there' if have else ''})"
        )
        with reporter.bar(remote.name, remote.size // _MEGABYTE, "MB") as bar:
            piece = _Piece(remote, url, stream, _Megabytes(bar))
            piece.seen.add(have)
            while stream.tell() < remote.size:
                before = stream.tell()
                try:
                    piece.receive(how.timeout, reporter)
                except Refused as refused:
                    raise DownloadError(
                        f"{url} is not to be had: {refused}",
                        "Try it another day, or name a server with the same archives: --mirror URL",
                    ) from None
                except Broken as broken:
                    if stream.tell() - before > _MEGABYTE:
                        patience.renew()
                    _wait(url, broken, patience, reporter)


def _wait(url: str, broken: Broken, patience: RetryPolicy, reporter: Reporter) -> None:
    wait = patience.after(broken)
    if wait is None:
        asked = f"; it asks to wait {broken.wait:.0f} s" if broken.wait else ""
        raise DownloadError(
            f"{url} cannot be fetched: {broken}{asked}",
            "Run the same command again later: it goes on from what is there. Another server: --mirror URL",
        )
    reporter.note(f"{url}: {broken}; asking again in {wait:.0f} s")
    time.sleep(wait)


class _Megabytes:
    """Moves a bar by whole megabytes."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._bytes = 0

    def add(self, n: int) -> None:
        before = self._bytes // _MEGABYTE
        self._bytes += n
        self._bar.advance(self._bytes // _MEGABYTE - before)


@dataclass(frozen=True)
class _Piece:
    """One request's share of a file: appended to `stream`, whose place is the number of bytes that are there."""

    remote: Remote
    url: str
    stream: BinaryIO
    seen: _Megabytes

    def receive(self, timeout: float, reporter: Reporter) -> None:
        """Append what one request brings.

        Raises:
            Broken: it brought less than all that lacks.
            Refused, DownloadError: as `fetch`.
        """
        with ask(self.url, timeout, start=self.stream.tell()) as answer:
            start, size = _extent(answer)
            if size is not None and size != self.remote.size:
                raise self._other(f"has {size:,} bytes")
            if start != self.stream.tell():
                if start:
                    raise Broken(f"the part from byte {start} came, not from {self.stream.tell()}")
                reporter.note(f"{self.url}: the server gives no parts of files; beginning anew")
                self.seen.add(-self.stream.tell())
                _empty(self.stream)
            while block := _read(answer):
                if self.stream.tell() + len(block) > self.remote.size:
                    raise self._other("has more bytes")
                self.stream.write(block)
                self.seen.add(len(block))
        self.stream.flush()
        if self.stream.tell() < self.remote.size:
            raise Broken("the connection ended early")

    def _other(self, how: str) -> DownloadError:
        return DownloadError(
            f"{self.url} is not the published file: it {how}, not {self.remote.size:,}",
            "Check what answers there (a login page?), or name another server: --mirror URL",
        )


def _empty(stream: BinaryIO) -> None:
    stream.seek(0)
    stream.truncate()


def _extent(answer: HTTPResponse) -> tuple[int, int | None]:
    """The first byte that an answer brings, and the size of the whole file where it says so."""
    if answer.status != 206:
        return 0, _length(answer)
    told = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", "").strip())
    if told is None:
        raise Broken("a part of the file that does not say which")
    return int(told[1]), None if told[2] == "*" else int(told[2])


def _length(answer: HTTPResponse) -> int | None:
    """The bytes of an answer, where it says so."""
    told = answer.headers.get("Content-Length", "")
    return int(told) if _DIGITS.fullmatch(told) else None
