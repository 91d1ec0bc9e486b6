"""How a command ends, in one number."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of all commands."""

    DONE = 0
    ERROR = 1
    """A user can mend it: a message says how."""
    USAGE = 2
    """Wrong words on the command line; click ends so by itself."""
    SKIPPED = 3
    """Done, but inputs were skipped or missing."""
    INTERRUPTED = 130
    """By Ctrl-C or SIGTERM, with the work so far kept."""

    @classmethod
    def of(cls, skipped: bool) -> ExitCode:
        """Of a command that is done."""
        return cls.SKIPPED if skipped else cls.DONE
