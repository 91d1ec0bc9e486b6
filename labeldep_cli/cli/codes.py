"""The exit codes of the commands."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    ERROR = 1
    """An error that the user can mend; a message says how."""
    USAGE = 2
    """A wrong flag or argument; click exits with this code by itself."""
    SKIPPED = 3
    """The command is done, but inputs were skipped or missing."""
    INTERRUPTED = 130
    """Ended by Ctrl-C or SIGTERM; the work so far is kept."""

    @classmethod
    def of(cls, skipped: bool) -> ExitCode:
        """The code of a command that is done."""
        return cls.SKIPPED if skipped else cls.DONE
