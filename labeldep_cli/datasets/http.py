"""Files over HTTP: the meaning of responses, retries, and large files that are fetched in several parts."""

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
_TEMPORARY = _BUSY | {408, 425, 500, 502, 504}
"""HTTP statuses of temporary failures."""


@dataclass(frozen=True)
class Remote:
    """A published file.

    Attributes:
        url: its address.
        size: in bytes.
        sha256: of its content (hex).
    """

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The file name, without the path."""
        return self.url.rsplit("/", 1)[1]


class Refused(Exception):
    """A permanent failure: a retry would get the same HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status


class Broken(Exception):
    """A temporary failure: a retry may succeed.

    Attributes:
        busy: the server asks for fewer requests.
        wait: seconds that the server asks to wait; None if it does not say.
    """

    def __init__(self, reason: str, busy: bool = False, wait: float | None = None) -> None:
        super().__init__(reason)
        self.busy = busy
        self.wait = wait


class RetryPolicy:
    """How often to retry, and how long to wait before each retry."""

    def __init__(self, tries: int, how: DownloadConfig) -> None:
        self._tries = tries
        self._how = how
        self._failed = 0

    def after(self, broken: Broken) -> float | None:
        """Seconds to wait before the next try; None to give up."""
        self._failed += 1
        if self._failed >= self._tries or (broken.wait or 0) > self._how.longest_wait:
            return None
        backoff = min(self._how.backoff * 2 ** (self._failed - 1), _LONGEST_BACKOFF)
        return backoff if broken.wait is None else broken.wait

    def renew(self) -> None:
        """Reset the count of failures."""
        self._failed = 0


def at_mirror(url: str, mirror: str | None) -> str:
    """The URL with the same path on the mirror; the URL itself if there is no mirror."""
    return url if mirror is None else mirror.rstrip("/") + urlsplit(url).path


def request(url: str, timeout: float, start: int = 0) -> HTTPResponse:
    """Request a file from byte `start` on; the response has status 206 if the server supports `start`.

    Raises:
        Refused: the server has no such file, or denies it.
        Broken: no connection, or a temporary failure of the server.
    """
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        with_headers = urllib.request.Request(url, headers=headers)
        return cast(HTTPResponse, urllib.request.urlopen(with_headers, timeout=timeout))
    except urllib.error.HTTPError as error:
        with error:
            if error.code in _TEMPORARY:
                wait = _retry_after(error.headers.get("Retry-After"))
                raise Broken(f"HTTP {error.code}", error.code in _BUSY, wait) from None
            raise Refused(error.code) from None
    except (OSError, HTTPException, ValueError) as error:
        raise Broken(str(getattr(error, "reason", error)) or type(error).__name__) from None


def _retry_after(header: str | None) -> float | None:
    """The seconds of a Retry-After header, which has a number of seconds or a date; None if it has neither."""
    if header is None:
        return None
    if _DIGITS.fullmatch(header.strip()):
        return float(header)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except ValueError:
        return None


def _read(response: HTTPResponse) -> bytes:
    """The next bytes of a response; empty at its end, even if it ends too early."""
    try:
        return response.read1(_BLOCK)
    except (OSError, HTTPException) as error:
        raise Broken(str(error) or type(error).__name__) from None


def read_all(response: HTTPResponse, limit: int) -> bytes:
    """All bytes of a response.

    Raises:
        Broken: the response ended early, or has more than `limit` bytes.
    """
    content = bytearray()
    while block := _read(response):
        content += block
        if len(content) > limit:
            raise Broken(f"more than {format_size(limit)}")
    if len(content) < (_length(response) or 0):
        raise Broken("the connection ended early")
    return bytes(content)


def fetch(remote: Remote, partial: Path, how: DownloadConfig, reporter: Reporter) -> None:
    """Download a file of known size to `partial`, continuing from the bytes that it already has.

    Size and SHA-256 identify the file, whatever server it comes from: a download can start on one server and continue
    on another. The caller checks the SHA-256.

    Raises:
        DownloadError: the server has no such file, has one of another size, or the connection broke too often.
        StorageError: the disk is full or not writable.
    """
    url = at_mirror(remote.url, how.mirror)
    retries = RetryPolicy(how.tries, how)
    with storing(partial), partial.open("ab") as stream:
        if stream.tell() > remote.size:
            _empty(stream)
        present = stream.tell()
        reporter.note(
            f"fetching {url} ({format_size(remote.size)}{f', {format_size(present)} are there' if present else ''})"
        )
        with reporter.bar(remote.name, remote.size // _MEGABYTE, "MB") as bar:
            transfer = _Transfer(remote, url, stream, _Megabytes(bar))
            transfer.progress.add(present)
            while stream.tell() < remote.size:
                before = stream.tell()
                try:
                    transfer.receive(how.timeout, reporter)
                except Refused as refused:
                    raise DownloadError(
                        f"{url} is not available: {refused}",
                        "Try it another day, or name a server with the same archives: --mirror URL",
                    ) from None
                except Broken as broken:
                    if stream.tell() - before > _MEGABYTE:
                        retries.renew()
                    _wait(url, broken, retries, reporter)


def _wait(url: str, broken: Broken, retries: RetryPolicy, reporter: Reporter) -> None:
    wait = retries.after(broken)
    if wait is None:
        server_wait = f"; it asks to wait {broken.wait:.0f} s" if broken.wait else ""
        raise DownloadError(
            f"{url} cannot be fetched: {broken}{server_wait}",
            "Run the same command again later: it goes on from what is there. Another server: --mirror URL",
        )
    reporter.note(f"{url}: {broken}; trying again in {wait:.0f} s")
    time.sleep(wait)


class _Megabytes:
    """Advances a bar in megabytes."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._bytes = 0

    def add(self, n: int) -> None:
        before = self._bytes // _MEGABYTE
        self._bytes += n
        self._bar.advance(self._bytes // _MEGABYTE - before)


@dataclass(frozen=True)
class _Transfer:
    """A download to `stream`, whose position is the number of bytes that are present."""

    remote: Remote
    url: str
    stream: BinaryIO
    progress: _Megabytes

    def receive(self, timeout: float, reporter: Reporter) -> None:
        """Send one request and append its bytes.

        Raises:
            Broken: bytes are still missing after this request.
            Refused, DownloadError: as `fetch`.
        """
        with request(self.url, timeout, start=self.stream.tell()) as response:
            start, size = _extent(response)
            if size is not None and size != self.remote.size:
                raise self._wrong_size(f"has {size:,} bytes")
            if start != self.stream.tell():
                if start:
                    raise Broken(f"the server sent the part from byte {start}, not from {self.stream.tell()}")
                reporter.note(f"{self.url}: the server does not send parts of files; starting again from the beginning")
                self.progress.add(-self.stream.tell())
                _empty(self.stream)
            while block := _read(response):
                if self.stream.tell() + len(block) > self.remote.size:
                    raise self._wrong_size("has more bytes")
                self.stream.write(block)
                self.progress.add(len(block))
        self.stream.flush()
        if self.stream.tell() < self.remote.size:
            raise Broken("the connection ended early")

    def _wrong_size(self, size: str) -> DownloadError:
        return DownloadError(
            f"{self.url} is not the published file: it {size}, not {self.remote.size:,}",
            "Check what the server sends (a login page?), or name another server: --mirror URL",
        )


def _empty(stream: BinaryIO) -> None:
    stream.seek(0)
    stream.truncate()


def _extent(response: HTTPResponse) -> tuple[int, int | None]:
    """The position of the first byte of a response, and the size of the complete file; None if it is not given."""
    if response.status != 206:
        return 0, _length(response)
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    if match is None:
        raise Broken("the server sent a part of the file without saying which part")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _length(response: HTTPResponse) -> int | None:
    """The Content-Length of a response in bytes; None if it has none."""
    header = response.headers.get("Content-Length", "")
    return int(header) if _DIGITS.fullmatch(header) else None
