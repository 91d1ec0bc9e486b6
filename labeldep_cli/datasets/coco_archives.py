"""COCO 2014's official archives: fetched, checked, and unpacked into folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labeldep_cli.config import DownloadConfig
from labeldep_cli.datasets.http import Remote, fetch
from labeldep_cli.errors import DatasetError, DownloadError, StorageError
from labeldep_cli.files import format_size, publish, sha256, storing
from labeldep_cli.progress import Reporter

_SITE = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Archive:
    """One archive and the folder in it.

    Attributes:
        remote: the zip as it was published.
        folder: what it unpacks to.
        pattern, count: the files that the folder must hold to be whole.
        unpacked: bytes that the folder takes on a disk, rounded up.
    """

    remote: Remote
    folder: str
    pattern: str
    count: int
    unpacked: int

    def there(self, root: Path) -> int:
        """How many of the files that make the folder whole are there."""
        return sum(1 for _ in (root / self.folder).glob(self.pattern))

    def brought(self, root: Path) -> Path:
        """Where a user may have put the zip; it is used, and left there."""
        return root / self.remote.name

    def partial(self, root: Path) -> Path:
        """The zip while it is fetched and unpacked."""
        return root / f"{self.remote.name}.partial"


# Sizes and SHA-256 as TensorFlow Datasets publishes them (url_checksums/coco.txt). JPEGs hardly shrink in a zip: their
# folder takes as much, and half a block of the disk for each file; the annotations are text.
ARCHIVES = (
    Archive(
        Remote(
            f"{_SITE}/annotations/annotations_trainval2014.zip",
            252_872_794,
            "031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
        ),
        "annotations",
        "instances_*2014.json",
        2,
        1_000_000_000,
    ),
    Archive(
        Remote(
            f"{_SITE}/zips/train2014.zip",
            13_510_573_713,
            "ede4087e640bddba550e090eae701092534b554b42b05ac33f0300b984b31775",
        ),
        "train2014",
        "COCO_train2014_*.jpg",
        82_783,
        14_000_000_000,
    ),
    Archive(
        Remote(
            f"{_SITE}/zips/val2014.zip",
            6_645_013_297,
            "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
        ),
        "val2014",
        "COCO_val2014_*.jpg",
        40_504,
        6_900_000_000,
    ),
)


def download(root: Path, how: DownloadConfig, reporter: Reporter, archives: Sequence[Archive] | None = None) -> None:
    """Fetch and unpack what `root` lacks. A folder that is whole is left as it is; nothing of a user's is removed.

    Args:
        root: the folder that gets annotations/, train2014/ and val2014/.
        how: mirror, patience, and whether archives stay.
        reporter: told what is there and what is fetched.
        archives: which; ARCHIVES if not given.

    Raises:
        DatasetError: a folder is there, but only a part of it.
        DownloadError: an archive is not to be had, or holds other bytes than were published.
        StorageError: there is too little room, or `root` is not writable.
    """
    lacking = []
    for archive in ARCHIVES if archives is None else archives:
        shutil.rmtree(_beside(root, archive), ignore_errors=True)  # left by a kill
        if _is_whole(root, archive):
            reporter.note(f"{root / archive.folder} is there already")
            archive.partial(root).unlink(missing_ok=True)  # left by a kill once it was unpacked
        else:
            lacking.append(archive)
    _require_room(root, most_needed(root, lacking, how.keep_archives), how)
    for archive in lacking:
        _get(root, archive, how, reporter)


def _beside(root: Path, archive: Archive) -> Path:
    return root / f".{archive.folder}.unpacking"


def _is_whole(root: Path, archive: Archive) -> bool:
    folder = root / archive.folder
    there = archive.there(root)
    if there < archive.count and folder.is_dir() and any(folder.iterdir()):
        raise DatasetError(
            f"{folder} has {there:,} of {archive.count:,} files {archive.pattern}: it is a part of COCO",
            "Move it away and run the same command again, or leave --download out to use it as it is.",
        )
    return there >= archive.count


def most_needed(root: Path, lacking: Sequence[Archive], keep: bool) -> int:
    """The most bytes that the disk holds at one time beyond what it holds now."""
    grown = most = 0
    for archive in lacking:
        stays = keep or archive.brought(root).exists()
        zips = [path for path in (archive.brought(root), archive.partial(root)) if path.exists()]
        have = min(zips[0].stat().st_size, archive.remote.size) if zips else 0
        fetched = archive.remote.size - have
        most = max(most, grown + fetched + archive.unpacked)
        grown += archive.unpacked + (fetched if stays else -have)
    return most


def _require_room(root: Path, needed: int, how: DownloadConfig) -> None:
    with storing(root):
        free = shutil.disk_usage(root).free
    if free < needed:
        instead = ", or leave --keep-archives out" if how.keep_archives else ""
        raise StorageError(
            f"{root} has {format_size(free)} free, but COCO's archives and what is unpacked from them take up to "
            f"{format_size(needed)} more",
            f"Free some disk, or name a folder on another one (--data-dir FOLDER){instead}.",
        )


def _get(root: Path, archive: Archive, how: DownloadConfig, reporter: Reporter) -> None:
    source = archive.brought(root)
    if source.exists():
        reporter.note(f"taking and checking {source}")
        _require_published(source, archive.remote, f"Move it away; if it is being downloaded, to {source}.partial.")
        _unpack(root, archive, source, reporter)
        return
    source = archive.partial(root)
    fetch(archive.remote, source, how, reporter)
    reporter.note(f"checking {source}")
    try:
        _require_published(source, archive.remote, "It was removed: the same command fetches it anew.")
    except DownloadError:
        source.unlink()
        raise
    _unpack(root, archive, source, reporter)
    with storing(source):
        if how.keep_archives:
            publish(source, archive.brought(root))
        else:
            source.unlink()


def _require_published(path: Path, remote: Remote, remedy: str) -> None:
    size = path.stat().st_size
    if size != remote.size:
        raise DownloadError(f"{path} has {size:,} bytes, but {remote.size:,} were published", remedy)
    digest = sha256(path)
    if digest != remote.sha256:
        raise DownloadError(f"{path} has SHA-256 {digest}, but {remote.sha256} was published", remedy)


def _unpack(root: Path, archive: Archive, source: Path, reporter: Reporter) -> None:
    """Unpack beside the folder, then rename."""
    folder, beside = root / archive.folder, _beside(root, archive)
    with storing(folder):
        try:
            with zipfile.ZipFile(source) as opened:
                members = [member for member in opened.infolist() if _belongs(member, archive, source)]
                with reporter.bar(f"unpacking {archive.remote.name}", len(members), "files") as bar:
                    for member in members:
                        opened.extract(member, beside)
                        bar.advance()
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DatasetError(f"{source} is damaged: {error}", "Remove it and run the same command again.") from None
        if hasattr(os, "sync"):
            os.sync()  # once for all files: 82,783 times fsync would take longer than the unpacking
        (beside / archive.folder).replace(folder)
        beside.rmdir()


def _belongs(member: zipfile.ZipInfo, archive: Archive, source: Path) -> bool:
    """Whether a member is a file of the archive's folder.

    Raises:
        DatasetError: its path leads out of it.
    """
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(
            f"{source} would write outside of its folder: {member.filename!r}", "Remove it: it is not COCO's archive."
        )
    return not member.is_dir() and path.parts[:1] == (archive.folder,)
