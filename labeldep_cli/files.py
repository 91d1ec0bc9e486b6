"""Atomic writes of files, hashes, and locks for one writer at a time."""

from __future__ import annotations

import datetime
import errno
import hashlib
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from labeldep_cli.errors import StorageError
from labeldep_cli.text import json_text

AnyPath = TypeVar("AnyPath", str, Path)

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a disk without space."""


def storage_error(path: Path, error: OSError) -> StorageError:
    """Turn an operating system error on writing a file or folder into one that says how to mend it."""
    if error.errno in FULL or any(f"errno = {code}" in str(error) for code in FULL):
        return StorageError(
            f"no space left to write {path}",
            "Free some disk and run the same command again: it goes on where it stopped.",
        )
    if error.errno == errno.EROFS:
        return StorageError(
            f"cannot write {path}: the file system is read-only",
            "Name a writable place: --out, --data-dir, --features-dir or --runs-dir.",
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return StorageError(
            f"cannot write {path}: no permission",
            "Name a writable place: --out, --data-dir, --features-dir or --runs-dir.",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return StorageError(
            f"cannot write {path}: a file stands where a folder is needed",
            "Move it away, or name another place (--out, --data-dir).",
        )
    if error.errno == errno.EISDIR:
        return StorageError(
            f"cannot write {path}: a folder stands where a file is needed", "Name another file with --out."
        )
    return StorageError(
        f"cannot write {path}: {error.strerror or error}", "Check the disk, or name another place (--out, --data-dir)."
    )


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn operating system errors in this block, which writes `path`, into a StorageError."""
    try:
        yield
    except BrokenPipeError:
        raise  # the reader of stdout has gone; the file is not to blame
    except OSError as error:
        raise storage_error(path, error) from error


def make_folder(folder: Path) -> None:
    """Create a folder and its parents.

    Raises:
        StorageError: a file has the name of a folder, or the location is not writable.
    """
    with storing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Write a file atomically: it appears complete or not at all. Of several processes, the last one to end wins.

    Yields:
        A temporary path in the folder of `path` to write to; no other process writes there. If the block raises no
        error, it is synced and renamed to `path`. A kill leaves at most this file, which the next writer replaces.

    Raises:
        StorageError: the disk is full or read-only, or there is no permission.
    """
    with storing(path), _temporary(path) as temporary:
        try:
            yield temporary
            publish(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


_held: set[int] = set()
"""Descriptors of this process's temporary files; they hold the locks. A forked worker closes its own ones."""


def _release_held() -> None:
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_held)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A temporary file for `path` that this process has alone: the first name that no other process has locked."""
    names = (path.with_name(f".{path.name}.{'' if n == 1 else f'{n}.'}writing") for n in count(1))
    temporary, descriptor = next((name, file) for name in names if (file := _locked_file(name)) is not None)
    _held.add(descriptor)
    try:
        yield temporary
    finally:
        _held.discard(descriptor)
        os.close(descriptor)


def _locked_file(temporary: Path) -> int | None:
    """Open a temporary file, empty and locked; None if another process has it."""
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except (ImportError, OSError):  # Windows, or a file system without locks
            return descriptor
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), temporary.stat()):
                os.ftruncate(descriptor, 0)  # what a kill left
                return descriptor
        os.close(descriptor)  # it has just got its final name


def publish(temporary: Path, path: Path) -> None:
    """Sync a finished temporary file to the disk and rename it to `path`."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder to the disk, so that a file that is new in it stays there."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write an indented JSON file atomically."""
    write_text(path, json_text(value, indent=2) + "\n")


def keep_dated(path: Path) -> Path | None:
    """Move a file to a name with the date of its last change, `audit-2026-01-31T1200.csv`; None if there is no file.

    Raises:
        StorageError: the place is not writable.
    """
    if not path.is_file():
        return None
    with storing(path):
        changed = datetime.datetime.fromtimestamp(path.stat().st_mtime)
        dated = f"{path.stem}-{changed:%Y-%m-%dT%H%M}"
        names = (f"{dated}{'' if number == 1 else f'-{number}'}{path.suffix}" for number in count(1))
        return path.rename(next(kept for kept in map(path.with_name, names) if not kept.exists()))


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(stream)


def _sha256(stream: Any) -> str:  # noqa: ANN401 - Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def lock(path: Path, what: str, patience: float = 2.0) -> Iterator[None]:
    """Hold a lock file during this block.

    The lock is a POSIX record lock, which belongs to the process and ends with it. Decoding workers that outlive a
    killed parent for a moment do not keep it; they would keep a flock.

    Args:
        path: the lock file; it is empty, and is not removed.
        what: the file or folder that the lock protects, for the message.
        patience: seconds to wait for another process.

    Raises:
        StorageError: another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no record locks: there nothing keeps two processes from writing one run
        yield
        return
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    with stream:
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise storage_error(path, error) from error
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"another labeldep process is writing {what}",
                        "Wait for it to end, or name another place (--out, --data-dir).",
                    ) from None
                time.sleep(0.1)
        yield


def locked(path: Path) -> bool:
    """Whether another process holds a lock file; False if the file cannot be read. Nothing is written."""
    try:
        import fcntl

        stream = path.open("rb")
    except (ImportError, OSError):
        return False
    with stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def expand_home(path: AnyPath) -> AnyPath:
    """A path whose leading `~` or `~user` is replaced by the home folder; unchanged if there is no such user."""
    return type(path)(os.path.expanduser(path))  # noqa: PTH111 - the method of Path raises for an unknown user


def plain_name(name: str) -> str:
    """A name that any file system takes: each run of characters other than letters, digits, . _ - becomes one _."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name)


def format_size(n: float) -> str:
    """A number of bytes as text: "512 B", "4.1 kB", "170.5 MB"."""
    if n < 1000:
        return f"{n:.0f} B"
    unit = min(int(math.log10(n)) // 3, 4)
    return f"{n / 1000**unit:.1f} {' kMGT'[unit]}B"


def counted(n: int, what: str) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"
