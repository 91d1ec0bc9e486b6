"""The entry point of `labeldep`, which `python -m labeldep_cli` is too."""

import os
import sys

from labeldep_cli.compute import interruption


def main() -> None:
    """Run the command line. A signal while it is imported is heard when the command begins."""
    with interruption.kept_for_later():
        _open_standard_streams()
        from labeldep_cli.cli import main as command_line

        command_line()


def _open_standard_streams() -> None:
    """Open what the shell has closed (`2>&-`) on the null device, before another file gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


if __name__ == "__main__":
    main()
