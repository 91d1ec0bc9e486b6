"""A database of the SHA-256 of files, so that an image is identified and compared without reading its file again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from labeldep_cli.datasets.image_file import FileState
from labeldep_cli.features.decode import Identity
from labeldep_cli.schemas import Count, conform

NAME = "known-files.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    key BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unusable (sha256 BLOB PRIMARY KEY, reason INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replaced (sha256 BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS looks (sha256 BLOB, rules TEXT, look BLOB, PRIMARY KEY (sha256, rules)) WITHOUT ROWID;
"""
"""`replaced` has what files held before other bytes were read from them; `looks`, 8 bytes of `features.look`, or none
for an image of one colour. Databases of older versions lack both, and `unusable`: their table `unreadable` is not used,
since it has images that can be read now."""

_Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
_Byte = Annotated[int, Meta(ge=0, le=255)]
_Look = Annotated[bytes, Meta(max_length=8)]
_File = tuple[bytes, Count, int, _Digest]
"""A row of `files`; a time may be before 1970, and -1 is none that a file has."""

_AT_ONCE = 500
"""Keys per query. SQLite accepts at least 999."""

_RACY, _COARSE_RACY = 50 * 10**6, 2 * 10**9
"""Nanoseconds. A file that changed less than this before it was read may change again and keep its time. The second
value is for file systems with times in whole seconds."""

_WAIT = 60.0
"""Seconds to wait for another process that writes."""


class KnownFiles:
    """The files that were read for the stores in a folder. This only saves time: if it is lost, files are read again.

    Args:
        folder: folder of the stores.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def contents(self, states: Sequence[FileState | None], keys: Sequence[bytes]) -> list[bytes | None]:
        """The SHA-256 of each image's bytes if it is known; None if the file has to be read.

        Args:
            states: states of the files now; None for a file that does not exist.
            keys: keys of the files. For a file that no longer exists, the last known SHA-256 is returned, so that its
                features can still be used.
        """
        query = "SELECT key, size, mtime_ns, sha256 FROM files WHERE key IN ({marks})"
        batches = [keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)]
        rows = self._rows(_File, *((query.format(marks=",".join("?" * len(batch))), batch) for batch in batches))
        known = {key: (size, mtime, sha256) for key, size, mtime, sha256 in rows}
        contents: list[bytes | None] = []
        for state, key in zip(states, keys, strict=True):
            size, mtime, sha256 = known.get(key, (None, None, None))
            same = state is None or (state.size, state.mtime_ns) == (size, mtime)
            contents.append(sha256 if same else None)
        return contents

    def files(self) -> list[tuple[FileState, bytes]]:
        """The state of each file when it was last read, and the SHA-256 of its bytes."""
        rows = self._rows(_File, ("SELECT key, size, mtime_ns, sha256 FROM files", ()))
        return [(FileState(key, size, mtime), sha256) for key, size, mtime, sha256 in rows]

    def replaced(self) -> list[bytes]:
        """The SHA-256 of images that a file once held, before other bytes were read from it."""
        return [sha256 for (sha256,) in self._rows(tuple[_Digest], ("SELECT sha256 FROM replaced", ()))]

    def reasons(self) -> dict[bytes, int]:
        """The reasons why images could not be used, by the SHA-256 of their bytes."""
        return dict(self._rows(tuple[_Digest, _Byte], ("SELECT sha256, reason FROM unusable", ())))

    def looks(self, rules: str) -> dict[bytes, int | None]:
        """What images look like (`features.look`), by the SHA-256 of their bytes; None for those of one colour.

        Args:
            rules: the rules by which they were read, in words.
        """
        rows = self._rows(tuple[_Digest, _Look], ("SELECT sha256, look FROM looks WHERE rules = ?", (rules,)))
        return {sha256: int.from_bytes(look, "big") if look else None for sha256, look in rows}

    def remember_looks(self, rules: str, looks: Mapping[bytes, int | None]) -> None:
        """Store what images look like that were just read; arguments as `looks` takes and returns them."""
        rows = [(sha256, rules, b"" if look is None else look.to_bytes(8, "big")) for sha256, look in looks.items()]
        self._write(("INSERT OR REPLACE INTO looks VALUES (?, ?, ?)", rows))

    def remember(self, identities: Iterable[Identity], reasons: Iterable[tuple[bytes, int]] = ()) -> None:
        """Store the identities of files that were just read, and the reasons why images could not be used.

        What one of these files held before goes to `replaced`.
        """
        now = time.time_ns()
        rows = [
            (state.key, state.size, -1 if _is_racy(state, now) else state.mtime_ns, sha256)
            for state, sha256 in identities
        ]
        self._write(
            (
                "INSERT OR IGNORE INTO replaced SELECT sha256 FROM files WHERE key = ? AND sha256 <> ?",
                [(key, sha256) for key, _, _, sha256 in rows],
            ),
            ("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows),
            ("INSERT OR REPLACE INTO unusable VALUES (?, ?)", list(reasons)),
        )

    def replace(self, keys: Iterable[bytes]) -> None:
        """Forget files that no longer exist under these keys; what they held goes to `replaced`."""
        rows = [(key,) for key in keys]
        self._write(
            ("INSERT OR IGNORE INTO replaced SELECT sha256 FROM files WHERE key = ?", rows),
            ("DELETE FROM files WHERE key = ?", rows),
        )

    def forget_replaced(self, contents: Iterable[bytes]) -> None:
        """Remove images from `replaced`."""
        self._write(("DELETE FROM replaced WHERE sha256 = ?", [(content,) for content in contents]))

    def forget_reasons(self, contents: Iterable[bytes]) -> None:
        """Remove the reasons of images, so that they are tried again."""
        self._write(("DELETE FROM unusable WHERE sha256 = ?", [(content,) for content in contents]))

    def _rows(self, row: Any, *queries: tuple[str, Sequence[object]]) -> list[Any]:  # noqa: ANN401 - a type of rows
        """The rows that queries give, one after the other; none if the database does not exist or is broken.

        Args:
            row: the type of a row; a row of another type is a sign of damage.
            queries: SQL, and its parameters. A table that older versions did not have has no rows.
        """
        if not self.path.exists():
            return []
        found: list[Any] = []
        try:
            address = f"{self.path.absolute().as_uri()}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=_WAIT)) as database:
                database.execute("SELECT * FROM files LIMIT 1").fetchall()
                for query, parameters in queries:
                    found += database.execute(query, parameters)
            return conform(found, list[row])
        except (sqlite3.Error, ValueError):
            return []

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        """Write in one transaction. If it fails, nothing is written, and the files are read again next time."""
        if not any(rows for _, rows in statements):
            return
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as database:
                # A kill does no harm without sync. A power failure may break the file; then a new one is started.
                database.execute("PRAGMA synchronous = OFF")
                database.executescript(_TABLES)
                with database:
                    for statement, rows in statements:
                        database.executemany(statement, rows)
        except sqlite3.OperationalError:
            return  # read-only, full, or locked for longer than _WAIT
        except sqlite3.DatabaseError:  # broken
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _is_racy(state: FileState, now: int) -> bool:
    """Whether a file has changed so recently that it may change again without a new time."""
    return state.mtime_ns > now - (_RACY if state.mtime_ns % 10**9 else _COARSE_RACY)
