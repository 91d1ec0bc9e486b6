"""The entry point of `labeldep`, which `python -m labeldep_cli` is too."""

from labeldep_cli.compute import interruption


def main() -> None:
    """Run the command line. A signal while it is imported is heard when the command begins."""
    with interruption.kept_for_later():
        from labeldep_cli.cli import main as command_line

        command_line()


if __name__ == "__main__":
    main()
