"""Write docs/cli.md: every command with its arguments and flags, as `--help` tells them.

    python scripts/write_cli_docs.py            # write the page
    python scripts/write_cli_docs.py --check    # exit 1 where it is stale

Everything is read from the command objects, so that the page cannot say other than the program does.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer.main

from labeldep_cli.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"

HEAD = """# Every command and flag

`python scripts/write_cli_docs.py` writes this page from the commands' own help; do not edit it by hand.
`labeldep COMMAND --help` says the same on a terminal. Where a default is empty, none is set, and the help text says
what happens then.
"""


def plain(text: str) -> str:
    """A help text in one line, safe in a cell of a Markdown table."""
    return re.sub(r"\s+", " ", text).strip().replace("|", "\\|").replace("<", "&lt;")


def names(parameter: Any) -> str:  # noqa: ANN401 - click's parameter, which typer may bring with it
    """`--flag`, `--on` / `--off`, or the name of an argument."""
    if parameter.param_type_name == "argument":
        return f"`{parameter.metavar or parameter.name.upper()}`"
    on, off = (", ".join(f"`{name}`" for name in each) for each in (parameter.opts, parameter.secondary_opts))
    return f"{on} / {off}" if off else on


def choices(parameter: Any) -> list[str]:  # noqa: ANN401 - as above
    """The words that a flag chooses from; none for a number, a path or a switch."""
    descriptor = getattr(parameter, "type_descriptor", None)  # of newer versions of typer; older ones have click's type
    if descriptor is not None:
        literal = get_origin(descriptor.annotation) is Literal
        return [str(word) for word in get_args(descriptor.annotation)] if literal else []
    return [str(getattr(word, "value", word)) for word in getattr(getattr(parameter, "type", None), "choices", ())]


def default(parameter: Any) -> str:  # noqa: ANN401 - as above
    """The default as it is typed; empty where there is none."""
    value = parameter.default
    if value is None or callable(value) or value in ((), [], "") or parameter.required:
        return ""
    if isinstance(value, bool):
        return ("on" if value else "off") if parameter.secondary_opts else ""
    return f"`{getattr(value, 'value', value)}`"


def help_of(parameter: Any) -> str:  # noqa: ANN401 - as above
    """The help text, the choices, and the environment variable where one is read."""
    words, variable = choices(parameter), getattr(parameter, "envvar", None)
    parts = [
        plain(parameter.help or ""),
        f"One of {', '.join(f'`{word}`' for word in words)}." if words else "",
        f"The variable `{variable}` sets it too." if variable else "",
    ]
    return " ".join(filter(None, parts))


def table(parameters: list[Any]) -> list[str]:
    """One row a parameter."""
    rows = [f"| {names(p)} | {default(p)} | {help_of(p)} |" for p in parameters]
    return ["| flag | default | what it does |", "|---|---|---|", *rows, ""]


def told(name: str, command: Any) -> list[str]:  # noqa: ANN401 - as above
    """One command: what it does, its arguments, its flags by the panels of `--help`."""
    lines = [f"## labeldep {name}", "", plain(command.help or ""), ""]
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        if not getattr(parameter, "hidden", False) and parameter.name != "help":
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "", []).append(parameter)
    for panel, parameters in panels.items():
        if panel:
            lines += [f"**{panel}**", ""]
        lines += table(parameters)
    return lines


def own_flags(program: Any) -> list[Any]:  # noqa: ANN401 - as above
    """The flags that stand before the command; those that Typer adds for shells are in docs/completion.md."""
    return [parameter for parameter in program.params if parameter.name in ("version", "project")]


def page() -> str:
    """The whole page."""
    program = typer.main.get_command(app)
    commands = program.commands  # type: ignore[attr-defined]
    links = ", ".join(f"[{name}](#labeldep-{name})" for name in commands)
    lines = [HEAD, f"Commands: {links}.", "", "Before the command:", "", *table(own_flags(program))]
    for name, command in commands.items():
        lines += told(name, command)
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    """Write the page, or with --check say whether it is stale."""
    if sys.argv[1:] == ["--check"]:
        stale = not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != page()
        sys.exit("docs/cli.md is stale: run python scripts/write_cli_docs.py" if stale else 0)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
