"""NUS-WIDE's photos, fetched one by one from the data set's own list of URLs; an account of those that are gone."""

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
from labeldep_cli.datasets.http import Broken, Refused, RetryPolicy, ask, at_mirror, read_whole
from labeldep_cli.datasets.nuswide_urls import Photo, read_urls
from labeldep_cli.errors import DownloadError
from labeldep_cli.files import atomic_write, make_folder, storing, write_text
from labeldep_cli.progress import Bar, Reporter

GONE = "gone.csv"
"""The account: path, and why the photo is gone. Those that it names are not asked for again."""

_NAMED = 5
"""Failures that are told one by one."""

_IN_HAND = 64
"""Photos given to the threads ahead: enough that those which are there already keep none of them waiting."""

_LARGEST_PHOTO = 50_000_000  # bytes
_LONGEST_PAUSE = 5.0  # seconds
_GONE_STATUS = (404, 410)
_PLACEHOLDER = "photo_unavailable"
"""In the URL that Flickr sends one to where a photo was removed: a picture that says so."""


@dataclass(frozen=True)
class Outcome:
    """What became of a photo, and why."""

    path: str
    state: Literal["there", "fetched", "gone", "failed"]
    reason: str = ""


def download(root: Path, wanted: Collection[str], urls: Path, how: DownloadConfig, reporter: Reporter) -> None:
    """Fetch the photos that `root`/Flickr lacks, and tell what became of all of them.

    Photos that are there and open as images are left alone; a new one appears whole or not at all.

    Args:
        root: the folder nuswide/.
        wanted: paths of the photos that the data set uses, as Imagelist.txt writes them, with slashes.
        urls: NUS-WIDE-urls.txt.
        how: mirror, pace and patience.
        reporter: takes the progress, the photos that failed, and the closing account.

    Raises:
        DatasetError: `urls` is not that list.
        DownloadError: so many photos failed one after the other that the network or a host must be gone.
        StorageError: the disk is full or not writable.
    """
    make_folder(root / "Flickr")
    known = _read_gone(root)
    getting = _Getting(root / "Flickr", {} if how.retry_gone else known, how)
    unlisted = set(wanted)

    def listed() -> Iterator[Photo]:
        for photo in read_urls(urls, unlisted):
            unlisted.discard(photo.path)
            yield photo

    account = _Account(known, how.failures, reporter)
    with (
        warnings.catch_warnings(),  # Pillow's remarks on sizes and EXIF; here, since filters belong to all threads
        storing(root / GONE),
        _appending(root) as gone,
        reporter.bar("photos", len(wanted), "photos") as bar,
        closing(_all(getting, listed())) as outcomes,
    ):
        warnings.simplefilter("ignore")
        account.take(outcomes, gone, bar)
    _tell(account.states, len(unlisted), root, urls, reporter)


def _read_gone(root: Path) -> dict[str, str]:
    """The account of earlier calls, without photos that have come since; written anew, since a kill may cut a line."""
    file = root / GONE
    if not file.is_file():
        return {}
    with storing(file), file.open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == 2][1:]
    known = {path: why for path, why in rows if not (root / "Flickr" / path).exists()}
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([("path", "reason"), *known.items()])
    write_text(file, text.getvalue())
    return known


@contextmanager
def _appending(root: Path) -> Iterator[TextIO]:
    file = root / GONE
    if not file.exists():
        write_text(file, "path,reason\n")
    with file.open("a", newline="", encoding="utf-8", buffering=1) as stream:  # a line is on the disk once it is known
        yield stream


@dataclass
class _Account:
    """Counts what became of photos, writes down those that are gone, and stops where nothing comes any more."""

    known: dict[str, str]
    failures: int
    reporter: Reporter
    states: Counter[str] = field(default_factory=Counter)
    in_a_row: int = 0

    def take(self, outcomes: Iterable[Outcome], gone: TextIO, bar: Bar) -> None:
        """Go through all outcomes."""
        writer = csv.writer(gone, lineterminator="\n")
        for outcome in outcomes:
            bar.advance()
            self.states[outcome.state] += 1
            if outcome.state == "gone" and outcome.path not in self.known:
                writer.writerow((outcome.path, outcome.reason))
            if outcome.state == "failed":
                self._fail(outcome)
            elif outcome.state != "there":
                self.in_a_row = 0

    def _fail(self, outcome: Outcome) -> None:
        if self.states["failed"] <= _NAMED:
            self.reporter.note(f"{outcome.path}: {outcome.reason}")
        self.in_a_row += 1
        if self.in_a_row >= self.failures:
            raise DownloadError(
                f"{self.in_a_row} photos failed one after the other, the last one {outcome.path}: {outcome.reason}",
                "Run the same command again later: it goes on from what is there. If the hosts of the list are no "
                "more, name one that has the same paths (--mirror https://live.staticflickr.com).",
            )


def _tell(states: Counter[str], unlisted: int, root: Path, urls: Path, reporter: Reporter) -> None:
    parts = [f"{states['there']:,} were there", f"{states['fetched']:,} fetched"]
    if states["gone"]:
        parts.append(f"{states['gone']:,} gone (see {root / GONE}; --retry-gone asks again)")
    if unlisted:
        parts.append(f"{unlisted:,} not listed in {urls}")
    if states["failed"]:
        parts.append(f"{states['failed']:,} failed (the same command asks again)")
    reporter.note(f"photos: {', '.join(parts)}")


def _all(getting: _Getting, photos: Iterator[Photo]) -> Generator[Outcome, None, None]:
    """Get photos in several threads, in the order in which they come; closing it ends them."""
    pool = ThreadPoolExecutor(getting.how.connections)
    try:
        waiting: set[Future[Outcome]] = {pool.submit(getting.get, photo) for photo in islice(photos, _IN_HAND)}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            waiting |= {pool.submit(getting.get, photo) for photo in islice(photos, len(done))}
            for future in done:
                yield future.result()
    finally:
        getting.stopped.set()
        pool.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """The command ends; what was being fetched is dropped."""


class _Getting:
    """Gets single photos, in several threads, at a pace that they share."""

    def __init__(self, folder: Path, gone: dict[str, str], how: DownloadConfig) -> None:
        self.folder = folder
        self.gone = gone
        self.how = how
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._pause = how.pause
        self._next = 0.0  # when the next request may start

    def get(self, photo: Photo) -> Outcome:
        """Get one photo, or learn why not."""
        file = self.folder / photo.path
        if _is_image(file):
            return Outcome(photo.path, "there")
        if photo.path in self.gone:
            return Outcome(photo.path, "gone", self.gone[photo.path])
        why = "no URL"
        for url in photo.urls:
            try:
                content = self._fetch(at_mirror(url, self.how.mirror))
            except Refused as refused:
                why = str(refused)
                if refused.status not in _GONE_STATUS:
                    return Outcome(photo.path, "failed", f"{url}: {why}")
            except Broken as broken:
                return Outcome(photo.path, "failed", f"{url}: {broken}")
            else:
                make_folder(file.parent)
                with atomic_write(file) as beside:
                    beside.write_bytes(content)
                return Outcome(photo.path, "fetched")
        return Outcome(photo.path, "gone", why)

    def _fetch(self, url: str) -> bytes:
        patience = RetryPolicy(self.how.photo_tries, self.how)
        while True:
            self._turn()
            try:
                content = _receive(url, self.how.timeout)
            except Broken as broken:
                seconds = patience.after(broken)
                if seconds is None:
                    raise
                if broken.busy:
                    self._hold(seconds)
                else:
                    self.stopped.wait(seconds)
            else:
                self._ease()
                return content

    def _turn(self) -> None:
        """Wait for this thread's turn to ask."""
        while not self.stopped.is_set():
            with self._lock:
                early = self._next - time.monotonic()
                if early <= 0:
                    self._next = time.monotonic() + self._pause
                    return
            self.stopped.wait(early)
        raise _Stopped

    def _hold(self, seconds: float) -> None:
        """Let no thread ask for so long, and all of them more slowly after that."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _ease(self) -> None:
        """Ask a little faster again, as long as all goes well."""
        with self._lock:
            self._pause = max(0.98 * self._pause, self.how.pause)


def _receive(url: str, timeout: float) -> bytes:
    """Ask for a photo once.

    Raises:
        Refused: it is not to be had, or the answer is the picture that stands in for it (then as status 410).
        Broken: another time, perhaps; or the answer is no image.
    """
    with ask(url, timeout) as answer:
        if _PLACEHOLDER in answer.url:
            raise Refused(410)
        content = read_whole(answer, _LARGEST_PHOTO)
    try:
        with Image.open(io.BytesIO(content)) as image:
            kind = image.format
            image.load()
    except Exception:  # what Pillow's decoders raise on damaged data is not one kind
        raise Broken("the answer is no image, or a broken one") from None
    if kind in ("GIF", "PNG") and url.lower().endswith(".jpg"):
        raise Refused(410)  # so is the stand-in, whatever is asked for
    return content


def _is_image(file: Path) -> bool:
    try:
        with Image.open(file):
            return True
    except Exception:  # missing, empty, cut within its head, or no image: it is fetched
        return False
