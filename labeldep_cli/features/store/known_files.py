"""Which file holds which bytes, so that an image is found without being read again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from labeldep_cli.datasets.image_file import FileState
from labeldep_cli.features.decode import Identity

NAME = "known-files.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS files (
    key BLOB PRIMARY KEY, size INTEGER, mtime_ns INTEGER, sha256 BLOB
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unreadable (sha256 BLOB PRIMARY KEY, reason INTEGER) WITHOUT ROWID;
"""

_AT_ONCE = 500
"""Keys of a query: SQLite takes 999 at least."""

_RACY, _COARSE_RACY = 50 * 10**6, 2 * 10**9
"""Nanoseconds: a file that changed so shortly before it was read may change again and keep its time. The second is
for times in whole seconds, as some file systems have them."""

_WAIT = 60.0
"""Seconds for another process that writes."""


class KnownFiles:
    """The memory of the files in a folder of stores. It only saves time: where it is lost, files are read again.

    Args:
        folder: of the stores.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME

    def contents(self, states: Sequence[FileState | None], keys: Sequence[bytes]) -> list[bytes | None]:
        """The SHA-256 of each image's bytes as far as it is known; None where the file has to be read.

        Args:
            states: of the files now; None for one that is not there.
            keys: their names. Of a file that is gone the last known bytes count: its features are still its features.
        """
        known: dict[bytes, tuple[int, int, bytes]] = {}
        with self._reading() as database:
            if database is not None:
                for start in range(0, len(keys), _AT_ONCE):
                    some = keys[start : start + _AT_ONCE]
                    marks = ",".join("?" * len(some))
                    rows = database.execute(
                        f"SELECT key, size, mtime_ns, sha256 FROM files WHERE key IN ({marks})",
                        some,
                    )
                    known |= {key: (size, mtime, sha256) for key, size, mtime, sha256 in rows}
        found: list[bytes | None] = []
        for state, key in zip(states, keys, strict=True):
            size, mtime, sha256 = known.get(key, (None, None, None))
            same = state is None or (state.size, state.mtime_ns) == (size, mtime)
            found.append(sha256 if same else None)
        return found

    def files(self) -> list[tuple[FileState, bytes]]:
        """All files that were ever read, as they were then, and the SHA-256 of their bytes."""
        with self._reading() as database:
            if database is None:
                return []
            rows = database.execute("SELECT key, size, mtime_ns, sha256 FROM files")
            return [(FileState(key, size, mtime), sha256) for key, size, mtime, sha256 in rows]

    def reasons(self) -> dict[bytes, int]:
        """Why images could not be used, by the SHA-256 of their bytes."""
        with self._reading() as database:
            return {} if database is None else dict(database.execute("SELECT sha256, reason FROM unreadable"))

    def remember(self, identities: Iterable[Identity], reasons: Iterable[tuple[bytes, int]] = ()) -> None:
        """Remember files that were just read, and bytes that could not be used."""
        now = time.time_ns()
        rows = [
            (state.key, state.size, -1 if _may_change_unseen(state, now) else state.mtime_ns, sha256)
            for state, sha256 in identities
        ]
        self._write(
            ("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows),
            ("INSERT OR REPLACE INTO unreadable VALUES (?, ?)", list(reasons)),
        )

    def forget_reasons(self, contents: Iterable[bytes]) -> None:
        """Forget that images could not be used, so that they are tried again."""
        self._write(("DELETE FROM unreadable WHERE sha256 = ?", [(content,) for content in contents]))

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that writes nothing; None where there is no memory yet, or it is broken."""
        database = self._opened()
        if database is None:
            yield None
            return
        with closing(database):
            yield database

    def _opened(self) -> sqlite3.Connection | None:
        if not self.path.exists():
            return None
        try:
            database = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT)
        except sqlite3.DatabaseError:
            return None
        try:
            for table in ("files", "unreadable"):
                database.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
        except sqlite3.DatabaseError:
            database.close()
            return None
        return database

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        """Write in one transaction. Where nothing can be written, nothing is: files are read again then."""
        try:
            with closing(sqlite3.connect(self.path, timeout=_WAIT)) as database:
                # A kill never harms it. A machine that loses its power may, and then it is begun anew.
                database.execute("PRAGMA synchronous = OFF")
                database.executescript(_TABLES)
                with database:
                    for statement, rows in statements:
                        database.executemany(statement, rows)
        except sqlite3.OperationalError:
            return  # read-only, full, or locked for longer than anyone should wait
        except sqlite3.DatabaseError:  # broken
            with suppress(OSError):
                self.path.unlink(missing_ok=True)


def _may_change_unseen(state: FileState, now: int) -> bool:
    """Whether a file may be written again without a new time."""
    return state.mtime_ns > now - (_RACY if state.mtime_ns % 10**9 else _COARSE_RACY)
