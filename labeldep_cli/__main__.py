"""`python -m labeldep_cli` is `labeldep`."""

from labeldep_cli.cli import main

if __name__ == "__main__":
    main()
