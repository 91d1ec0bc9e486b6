"""COCO 2014's official archives: downloaded, checked, and unpacked. An unpacked folder appears only when complete."""

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
    """An archive and the folder that it unpacks to.

    Attributes:
        remote: the published zip.
        folder: the name of the folder in it.
        pattern, count: a complete folder has `count` files that match `pattern`.
        unpacked: bytes that the folder takes on a disk, rounded up.
    """

    remote: Remote
    folder: str
    pattern: str
    count: int
    unpacked: int

    def n_present(self, root: Path) -> int:
        """How many of the folder's files exist."""
        return sum(1 for _ in (root / self.folder).glob(self.pattern))

    def user_zip(self, root: Path) -> Path:
        """Where a user may have put the zip; it is used and not removed."""
        return root / self.remote.name

    def partial(self, root: Path) -> Path:
        """The zip while it is downloaded and unpacked."""
        return root / f"{self.remote.name}.partial"


# Sizes and SHA-256 are those of TensorFlow Datasets (url_checksums/coco.txt). A zip hardly compresses JPEGs: their
# folder has the same size, plus half a disk block for each file. The annotations are text.
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
    """Download and unpack the archives that `root` lacks.

    A complete folder is not changed, and no file of the user is removed.

    Args:
        root: the folder that gets annotations/, train2014/ and val2014/.
        how: mirror, retries, and whether archives are kept.
        reporter: gets notes about what exists and what is downloaded.
        archives: which archives; None for all, ARCHIVES.

    Raises:
        DatasetError: a folder exists but is incomplete.
        DownloadError: an archive is not available, or its bytes are not the published ones.
        StorageError: the disk has too little free space, or `root` is not writable.
    """
    missing = []
    for archive in ARCHIVES if archives is None else archives:
        shutil.rmtree(_unpacking(root, archive), ignore_errors=True)  # left by a killed process
        if _is_complete(root, archive):
            reporter.note(f"{root / archive.folder} is there already")
            archive.partial(root).unlink(missing_ok=True)  # left by a process that was killed after unpacking
        else:
            missing.append(archive)
    _require_space(root, peak_bytes(root, missing, how.keep_archives), how)
    for archive in missing:
        _get(root, archive, how, reporter)


def _unpacking(root: Path, archive: Archive) -> Path:
    """The temporary folder that an archive is unpacked into."""
    return root / f".{archive.folder}.unpacking"


def _is_complete(root: Path, archive: Archive) -> bool:
    folder = root / archive.folder
    n_present = archive.n_present(root)
    if n_present < archive.count and folder.is_dir() and any(folder.iterdir()):
        raise DatasetError(
            f"{folder} has {n_present:,} of {archive.count:,} files {archive.pattern}: it is a part of COCO",
            "Move it away and run the same command again, or leave --download out to use it as it is.",
        )
    return n_present >= archive.count


def peak_bytes(root: Path, missing: Sequence[Archive], keep: bool) -> int:
    """The largest number of bytes that the disk holds at any time, in addition to what it holds now."""
    added = peak = 0
    for archive in missing:
        stays = keep or archive.user_zip(root).exists()
        zips = [path for path in (archive.user_zip(root), archive.partial(root)) if path.exists()]
        present = min(zips[0].stat().st_size, archive.remote.size) if zips else 0
        to_fetch = archive.remote.size - present
        peak = max(peak, added + to_fetch + archive.unpacked)
        added += archive.unpacked + (to_fetch if stays else -present)
    return peak


def _require_space(root: Path, needed: int, how: DownloadConfig) -> None:
    with storing(root):
        free = shutil.disk_usage(root).free
    if free < needed:
        alternative = ", or leave --keep-archives out" if how.keep_archives else ""
        raise StorageError(
            f"{root} has {format_size(free)} free, but COCO's archives and what is unpacked from them take up to "
            f"{format_size(needed)} more",
            f"Free some space, or name a folder on another disk (--data-dir FOLDER){alternative}.",
        )


def _get(root: Path, archive: Archive, how: DownloadConfig, reporter: Reporter) -> None:
    source = archive.user_zip(root)
    if source.exists():
        reporter.note(f"taking and checking {source}")
        _require_published(source, archive.remote, f"Move it away; if it is being downloaded, to {source}.partial.")
        _unpack(root, archive, source, reporter)
        return
    source = archive.partial(root)
    fetch(archive.remote, source, how, reporter)
    reporter.note(f"checking {source}")
    try:
        _require_published(source, archive.remote, "It was removed: the same command fetches it again.")
    except DownloadError:
        source.unlink()
        raise
    _unpack(root, archive, source, reporter)
    with storing(source):
        if how.keep_archives:
            publish(source, archive.user_zip(root))
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
    """Unpack into a temporary folder, then rename it."""
    folder, temporary = root / archive.folder, _unpacking(root, archive)
    with storing(folder):
        try:
            with zipfile.ZipFile(source) as opened:
                members = [member for member in opened.infolist() if _belongs(member, archive, source)]
                with reporter.bar(f"unpacking {archive.remote.name}", len(members), "files") as bar:
                    for member in members:
                        opened.extract(member, temporary)
                        bar.advance()
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DatasetError(f"{source} is damaged: {error}", "Remove it and run the same command again.") from None
        if hasattr(os, "sync"):
            os.sync()  # once for all files: 82,783 calls of fsync would take longer than the unpacking
        (temporary / archive.folder).replace(folder)
        temporary.rmdir()


def _belongs(member: zipfile.ZipInfo, archive: Archive, source: Path) -> bool:
    """Whether a member is a file of the archive's folder.

    Raises:
        DatasetError: its path leads out of the folder.
    """
    path = PurePosixPath(member.filename.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(
            f"{source} would write outside of its folder: {member.filename!r}", "Remove it: it is not COCO's archive."
        )
    return not member.is_dir() and path.parts[:1] == (archive.folder,)
