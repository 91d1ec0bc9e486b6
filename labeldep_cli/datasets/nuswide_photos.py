"""NUS-WIDE's photos, downloaded one by one from the data set's list of URLs; and a record of those that are gone."""

from __future__ import annotations

import csv
import io
import threading
import time
import warnings
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal, TextIO

from PIL import Image

from labeldep_cli.config import DownloadConfig
from labeldep_cli.datasets.http import Broken, Refused, RetryPolicy, at_mirror, read_all, request
from labeldep_cli.datasets.nuswide_urls import Photo, read_urls
from labeldep_cli.errors import DownloadError
from labeldep_cli.files import atomic_write, make_folder, storing, write_text
from labeldep_cli.progress import Bar, Reporter

GONE = "gone.csv"
"""The record of photos that are gone, with the reasons. These photos are not requested again."""

_MAX_NOTES = 5
"""Failures that get a note each."""

_QUEUED = 64
"""Photos that are queued for the threads: enough that photos which exist already keep no thread waiting."""

_LARGEST_PHOTO = 50_000_000  # bytes
_LONGEST_PAUSE = 5.0  # seconds
_GONE_STATUS = (404, 410)
_PLACEHOLDER = "photo_unavailable"
"""A part of the URL to which Flickr redirects a removed photo: a picture that says that the photo is unavailable."""


@dataclass(frozen=True)
class Outcome:
    """The result for one photo, and the reason."""

    path: str
    state: Literal["there", "fetched", "gone", "failed"]
    reason: str = ""


def download(root: Path, paths: Collection[str], urls: Path, how: DownloadConfig, reporter: Reporter) -> None:
    """Download the photos that `root`/Flickr lacks, and report the results.

    Photos that exist and open as images are not changed. A new file appears only when it is complete.

    Args:
        root: the folder nuswide/.
        paths: the photos that the data set uses, as in Imagelist.txt but with slashes.
        urls: NUS-WIDE-urls.txt.
        how: mirror, pace and retries.
        reporter: gets the progress, the photos that failed, and the final counts.

    Raises:
        DatasetError: `urls` is not that list.
        DownloadError: too many photos failed one after the other, so that the network or a host must be down.
        StorageError: the disk is full or not writable.
    """
    make_folder(root / "Flickr")
    known_gone = _read_gone(root)
    downloader = _Downloader(root / "Flickr", {} if how.retry_gone else known_gone, how)
    unlisted = set(paths)

    def listed() -> Iterator[Photo]:
        for photo in read_urls(urls, unlisted):
            unlisted.discard(photo.path)
            yield photo

    tally = _Tally(known_gone, how.failures, reporter)
    with (
        warnings.catch_warnings(),  # Pillow's warnings about size and EXIF; here, since filters apply to all threads
        storing(root / GONE),
        _appending(root) as gone_file,
        reporter.bar("photos", len(paths), "photos") as bar,
        closing(_all(downloader, listed())) as outcomes,
    ):
        warnings.simplefilter("ignore")
        tally.count(outcomes, gone_file, bar)
    _report(tally.states, len(unlisted), root, urls, reporter)


def _read_gone(root: Path) -> dict[str, str]:
    """The record of earlier commands, without photos that exist by now.

    The file is written again, since a killed process may have left an incomplete line.
    """
    file = root / GONE
    if not file.is_file():
        return {}
    with storing(file), file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == 2][1:]
    known_gone = {path: reason for path, reason in rows if not (root / "Flickr" / path).exists()}
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("path", "reason"), *known_gone.items()])
    write_text(file, text.getvalue())
    return known_gone


@contextmanager
def _appending(root: Path) -> Iterator[TextIO]:
    file = root / GONE
    if not file.exists():
        write_text(file, "path,reason\n")
    with file.open("a", newline="", encoding="utf-8", buffering=1) as stream:  # each line is written immediately
        yield stream


@dataclass
class _Tally:
    """Counts the results, records photos that are gone, and stops after too many failures in a row."""

    known_gone: dict[str, str]
    failures: int
    reporter: Reporter
    states: Counter[str] = field(default_factory=Counter)
    in_a_row: int = 0

    def count(self, outcomes: Iterable[Outcome], gone_file: TextIO, bar: Bar) -> None:
        """Count all outcomes.

        Raises:
            DownloadError: too many photos failed one after the other.
        """
        writer = csv.writer(gone_file, lineterminator="\n")
        for outcome in outcomes:
            bar.advance()
            self.states[outcome.state] += 1
            if outcome.state == "gone" and outcome.path not in self.known_gone:
                writer.writerow((outcome.path, outcome.reason))
            if outcome.state == "failed":
                self._fail(outcome)
            elif outcome.state != "there":
                self.in_a_row = 0

    def _fail(self, outcome: Outcome) -> None:
        if self.states["failed"] <= _MAX_NOTES:
            self.reporter.note(f"{outcome.path}: {outcome.reason}")
        self.in_a_row += 1
        if self.in_a_row >= self.failures:
            raise DownloadError(
                f"{self.in_a_row} photos failed one after the other, the last one {outcome.path}: {outcome.reason}",
                "Run the same command again later: it goes on from what is there. If the hosts in the list no longer "
                "exist, name one that has the same paths (--mirror https://live.staticflickr.com).",
            )


def _report(states: Counter[str], unlisted: int, root: Path, urls: Path, reporter: Reporter) -> None:
    parts = [f"{states['there']:,} were there", f"{states['fetched']:,} fetched"]
    if states["gone"]:
        parts.append(f"{states['gone']:,} gone (see {root / GONE}; --retry-gone tries them again)")
    if unlisted:
        parts.append(f"{unlisted:,} not listed in {urls}")
    if states["failed"]:
        parts.append(f"{states['failed']:,} failed (the same command tries them again)")
    reporter.note(f"photos: {', '.join(parts)}")


def _all(downloader: _Downloader, photos: Iterator[Photo]) -> Generator[Outcome, None, None]:
    """Download photos in several threads; yield outcomes as they are ready. Closing the generator stops the threads."""
    pool = ThreadPoolExecutor(downloader.how.connections)
    try:
        waiting: set[Future[Outcome]] = {pool.submit(downloader.get, photo) for photo in islice(photos, _QUEUED)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(downloader.get, photo) for photo in islice(photos, len(done))}
            for future in done:
                yield future.result()
    finally:
        downloader.stopped.set()
        pool.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """The command ends, and unfinished downloads are dropped."""


class _Downloader:
    """Downloads single photos; several threads use it, with a common pace."""

    def __init__(self, folder: Path, gone: dict[str, str], how: DownloadConfig) -> None:
        self.folder = folder
        self.gone = gone
        self.how = how
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._pause = how.pause
        self._next = 0.0  # when the next request may start

    def get(self, photo: Photo) -> Outcome:
        """Download one photo if it is missing."""
        file = self.folder / photo.path
        if _is_image(file):
            return Outcome(photo.path, "there")
        if photo.path in self.gone:
            return Outcome(photo.path, "gone", self.gone[photo.path])
        reason = "no URL"
        for url in photo.urls:
            try:
                content = self._fetch(at_mirror(url, self.how.mirror))
            except Refused as refused:
                reason = str(refused)
                if refused.status not in _GONE_STATUS:
                    return Outcome(photo.path, "failed", f"{url}: {reason}")
            except Broken as broken:
                return Outcome(photo.path, "failed", f"{url}: {broken}")
            else:
                make_folder(file.parent)
                with atomic_write(file) as temporary:
                    temporary.write_bytes(content)
                return Outcome(photo.path, "fetched")
        return Outcome(photo.path, "gone", reason)

    def _fetch(self, url: str) -> bytes:
        retries = RetryPolicy(self.how.photo_tries, self.how)
        while True:
            self._wait_for_turn()
            try:
                content = _receive(url, self.how.timeout)
            except Broken as broken:
                seconds = retries.after(broken)
                if seconds is None:
                    raise
                if broken.busy:
                    self._slow_down(seconds)
                else:
                    self.stopped.wait(seconds)
            else:
                self._speed_up()
                return content

    def _wait_for_turn(self) -> None:
        """Wait until this thread may send a request.

        Raises:
            _Stopped: the command ends.
        """
        while not self.stopped.is_set():
            with self._lock:
                remaining = self._next - time.monotonic()
                if remaining <= 0:
                    self._next = time.monotonic() + self._pause
                    return
            self.stopped.wait(remaining)
        raise _Stopped

    def _slow_down(self, seconds: float) -> None:
        """Stop all requests for some seconds, and double the pause between requests after that."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _speed_up(self) -> None:
        """Shorten the pause between requests by 2 %, down to the configured one."""
        with self._lock:
            self._pause = max(0.98 * self._pause, self.how.pause)


def _receive(url: str, timeout: float) -> bytes:
    """Request a photo once.

    Raises:
        Refused: the photo is not available, or the response is Flickr's placeholder picture (then with status 410).
        Broken: a temporary failure, or the response is not an image.
    """
    with request(url, timeout) as response:
        if _PLACEHOLDER in response.url:
            raise Refused(410)
        content = read_all(response, _LARGEST_PHOTO)
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format
            image.load()
    except Exception:  # Pillow's decoders raise many kinds on damaged data
        raise Broken("the response is not an image, or a broken one") from None
    if kind in ("GIF", "PNG") and url.lower().endswith(".jpg"):
        raise Refused(410)  # the placeholder is a GIF or PNG
    return content


def _is_image(file: Path) -> bool:
    try:
        with Image.open(file):
            return True
    except Exception:  # missing, empty, cut off in its header, or not an image: it will be downloaded
        return False
