"""What a command says last: the next useful one, ready to paste.

One line on stderr, where stderr is a terminal: logs of scripts and CI stay as they are. It leaves out what
`labeldep.toml`, the environment and the defaults say already.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from labeldep_cli.cli import project_file, torchrun
from labeldep_cli.cli.command_flags import Flag
from labeldep_cli.cli.show import tell
from labeldep_cli.config import Source, Workspace, settings_of

_PASSED_ON = frozenset(name for config in (Source, Workspace) for name in settings_of(config)) | {
    "device",
    "max_memory",
    "full",
    "head",
    "seed",
}
"""What one command hands on to the next."""


def say_next(
    ctx: typer.Context, command: str, *arguments: str, values: Mapping[str, object] | None = None, json: bool = False
) -> None:
    """Say the next command, if a person looks on.

    Args:
        ctx: of the command that ends.
        command: the next one.
        arguments: its arguments.
        values: its flags, by the names of its function's parameters; those that it does not have are left out.
        json: the command that ends printed JSON.
    """
    if not json and _is_read():
        tell(f"next: {next_command(ctx, command, arguments, values or {})}")


def next_command(ctx: typer.Context, command: str, arguments: tuple[str, ...], values: Mapping[str, object]) -> str:
    """A command with its arguments and the flags that have to be said; for the arguments, see `say_next`."""
    flags = project_file.all_flags(ctx).get(command, ())
    said = project_file.of_call(ctx).values_of(command, flags)
    root = ctx.find_root()
    source = root.get_parameter_source("project")
    is_named = source is not None and source.name == "COMMANDLINE"
    project = ["--project", str(root.params["project"])] if is_named else []
    words = [word for flag in flags if flag.name in values for word in _words(flag, values[flag.name], said)]
    return shlex.join(["labeldep", *project, command, *arguments, *words])


def given(ctx: typer.Context, *configs: object) -> dict[str, object]:
    """The settings of configs that this command has as flags, so that the next one is told the same.

    What stands in a config without having been a flag was not said by the user, and the next command knows better.
    """
    names = {flag.name for flag in project_file.all_flags(ctx).get(str(ctx.info_name), ())}
    return {name: value for config in configs for name, value in vars(config).items() if name in names & _PASSED_ON}


def name_of(folder: Path, runs_dir: Path) -> str:
    """How a run is called: its name within the runs dir, else its folder."""
    try:
        return folder.resolve().relative_to(runs_dir.resolve()).as_posix()
    except ValueError:
        return str(folder)


def _words(flag: Flag, value: object, said: Mapping[str, object]) -> list[str]:
    """The words that give a flag a value; none where it has that value without them."""
    otherwise = flag.fallback(said.get(flag.name))
    if flag.parser is not None and isinstance(otherwise, str):
        otherwise = flag.parser(otherwise)
    if value is None or str(value) == str(otherwise):
        return []
    if flag.kind is bool:
        word = flag.words[0] if value else flag.off
        return [f"--{word}"] if word else []
    return [f"--{flag.words[0]}", str(value)]


def _is_read() -> bool:
    """Whether stderr is a terminal, and this process alone at work."""
    return sys.stderr.isatty() and not torchrun.started()
