"""The hint at the end of a command: the next useful command, ready to paste.

It is one line on stderr, printed only if stderr is a terminal, so that logs of scripts and CI do not have it. Flags are
left out if `labeldep.toml`, the environment or the default gives the same value.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import typer

from labeldep_cli.cli import project_file, torchrun
from labeldep_cli.cli.command_flags import Flag
from labeldep_cli.cli.show import print_note
from labeldep_cli.config import Scope, Source, Workspace, settings_of

_PASSED_ON = frozenset(name for config in (Source, Workspace) for name in settings_of(config)) | {
    "device",
    "max_memory",
    "full",
    "head",
    "seed",
}
"""The settings that one command passes on to the next."""


def print_next(
    ctx: typer.Context, command: str, *arguments: str, values: Mapping[str, object] | None = None, json: bool = False
) -> None:
    """Print the next command, if stderr is a terminal.

    Args:
        ctx: context of the command that ends.
        command: name of the next command.
        arguments: arguments of the next command.
        values: values of its flags, by parameter name. Flags that it does not have are left out.
        json: whether the command that ends printed JSON; if so, nothing is printed.
    """
    if not json and _is_interactive():
        print_note(f"next: {next_command(ctx, command, arguments, values or {})}")


def next_command(ctx: typer.Context, command: str, arguments: tuple[str, ...], values: Mapping[str, object]) -> str:
    """A command with its arguments and the flags that are necessary; for the parameters, see `print_next`."""
    flags = project_file.all_flags(ctx).get(command, ())
    from_file = project_file.of_call(ctx).values_of(command, flags)
    root = ctx.find_root()
    source = root.get_parameter_source("project")
    is_named = source is not None and source.name == "COMMANDLINE"
    project = ["--project", str(root.params["project"])] if is_named else []
    words = [word for flag in flags if flag.name in values for word in _words(flag, values[flag.name], from_file)]
    return shlex.join(["labeldep", *project, command, *arguments, *words])


def passed_on(ctx: typer.Context, *configs: object) -> dict[str, object]:
    """The settings that this command has as flags and passes on to the next.

    Settings of the configs that are not flags of this command are left out: the user did not choose their values.
    """
    names = {flag.name for flag in project_file.all_flags(ctx).get(str(ctx.info_name), ())}
    return {name: value for config in configs for name, value in vars(config).items() if name in names & _PASSED_ON}


def trained_before(source: Source, runs_dir: Path) -> bool:
    """Whether a data set has a pretrained run, which `pretrain` replaces only with --fresh once labels have changed."""
    from labeldep_cli.runs.names import known_runs

    scope = Scope(source.dataset, source.backbone)
    runs = (run for run in known_runs(runs_dir) if run.within(scope) and not (run.kept or run.nested))
    return any(run.stage == "pretrain" for run in runs)


def name_of(folder: Path, runs_dir: Path) -> str:
    """The name of a run in the runs' folder; the path of its folder if it is elsewhere."""
    try:
        return folder.resolve().relative_to(runs_dir.resolve()).as_posix()
    except ValueError:
        return str(folder)


def _words(flag: Flag, value: object, from_file: Mapping[str, object]) -> list[str]:
    """The words that set a flag to a value; none if it has that value without them."""
    unset = flag.fallback(from_file.get(flag.name))
    if flag.parser is not None and isinstance(unset, str):
        unset = flag.parser(unset)
    if value is None or str(value) == str(unset):
        return []
    if flag.kind is bool:
        word = flag.words[0] if value else flag.off
        return [f"--{word}"] if word else []
    return [f"--{flag.words[0]}", str(value)]


def _is_interactive() -> bool:
    """Whether stderr is a terminal and torchrun did not start this process."""
    return sys.stderr.isatty() and not torchrun.started()
