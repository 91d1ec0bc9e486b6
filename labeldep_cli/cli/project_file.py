"""`labeldep.toml`: what all commands of a project have in common, said once.

    [defaults]                         # of every command that has the flag
    dataset = "photos/labels.csv"
    val-fraction = 0.2

    [adversarial]                      # of one command
    critic = "nce"

Its values become click's `default_map`: flags go before the environment, the environment before the file, the file
before the defaults. Paths in it are relative to its folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from labeldep_cli.cli.command_flags import Flag
from labeldep_cli.config import DRAW, RunWorkspace, Scope
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.errors import LabeldepError, nearest
from labeldep_cli.files import expand_home

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "labeldep.toml"
DEFAULTS = "defaults"
VARIABLE = "LABELDEP_PROJECT"

Commands = Mapping[str, tuple[Flag, ...]]
"""The flags of each command."""

_OF_DATA = frozenset({"dataset", "backbone", "weights", "data_dir", *DRAW})
KEPT_OUT: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("eval", "compare", "dependency", "predict", "export", "report", "runs"), _OF_DATA),
    "audit": frozenset({"dataset"}),
}
"""Of [defaults], what is no flag of a command that names a run.

A run knows its own data, backbone and weights. There such a flag says that they are other ones now, which a project's
common data set does not mean; in the command's own table it does.
"""

_EACH_ITS_OWN = frozenset({"out"})
"""What no two commands can have in common."""

_FLAGS = "labeldep.flags"
"""Where click's context keeps what gives the flags of all commands."""

_ERRORS = "labeldep.project_errors"
"""Where click's context keeps what is wrong with the file, by command."""

_MAYBE_PATHS = frozenset({"dataset", "weights", "start", "run"})
"""Flags that take a name or a path."""


@dataclass(frozen=True)
class ProjectFile:
    """The project file that this call goes by.

    Attributes:
        path: of the file; None where there is none.
        common: [defaults] as it is written.
        own: the tables of commands, by the names of their functions' parameters.
        dataset, backbone, weights: the project's current ones, as [defaults] has them; they find runs by stage.
    """

    path: Path | None = None
    common: Mapping[str, object] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    dataset: str | None = None
    backbone: str | None = None
    weights: str | None = None

    def values_of(self, command: str, flags: Iterable[Flag]) -> dict[str, object]:
        """What the file says for a command, by the names of its function's parameters.

        Raises:
            LabeldepError: a value of [defaults] is none of this command's flag.
        """
        if self.path is None:
            return {}
        kept_out = KEPT_OUT.get(command, frozenset())
        values = {}
        for key, value in self.common.items():
            for flag in flags:
                if _plain(key) in flag.keys and flag.name not in kept_out:
                    values[flag.name] = _value(self.path, DEFAULTS, key, [flag], value)
        return {**values, **self.own.get(command, {})}

    def is_own(self, command: str, name: str) -> bool:
        """Whether a command's own table has a flag."""
        return name in self.own.get(command, {})

    def to_json(self) -> dict[str, Any]:
        """The file and what it says, as `doctor --json` prints it."""
        tables = {DEFAULTS: self.common} if self.common else {}
        return {"path": str(self.path), "tables": {**tables, **self.own}}


NO_FILE = ProjectFile()


def of_call(ctx: typer.Context) -> ProjectFile:
    """The project file that this call goes by; one without a path where there is none."""
    return ctx.find_object(ProjectFile) or NO_FILE


def scoped(ctx: typer.Context, run_workspace: RunWorkspace) -> RunWorkspace:
    """The same places, with words that name runs looked up among those of the project's data set and backbone."""
    file = of_call(ctx)
    return replace(run_workspace, scope=Scope(file.dataset, file.backbone))


def all_flags(ctx: typer.Context) -> Commands:
    """The flags of each command of the program that this call belongs to."""
    commands: Commands = ctx.meta[_FLAGS]() if _FLAGS in ctx.meta else {}
    return commands


def locate(named: Path | None) -> Path | None:
    """The file that is named (or that lies in the folder that is named), else the one in the working directory."""
    if named is None:
        return Path(NAME) if Path(NAME).is_file() else None
    return named / NAME if named.is_dir() else named


def load(path: Path, commands: Commands) -> ProjectFile:
    """Read a project file and check every key and value of it.

    Args:
        path: of the file.
        commands: all commands with their flags.

    Raises:
        LabeldepError: it is missing or no TOML; a table, a flag or a value is none. Names the file and the key.
    """
    common: dict[str, object] = {}
    own: dict[str, dict[str, object]] = {}
    current: dict[str, str] = {}
    for table, entries in _parse(path).items():
        if table not in (DEFAULTS, *commands) or not isinstance(entries, dict):
            raise _no_table(path, table, entries, commands)
        known = [*commands.values()] if table == DEFAULTS else [commands[table]]
        read: dict[str, object] = {}
        for key, value in entries.items():
            flags = _flags_for(path, table, key, known)
            if flags[0].name in read:
                raise LabeldepError(f"{path}, [{table}] {key}: the flag stands there twice", "Keep one of the two.")
            read[flags[0].name] = _value(path, table, key, flags, value)
        if table == DEFAULTS:
            common = entries
            current = {name: str(read[name]) for name in ("dataset", "backbone", "weights") if name in read}
        else:
            own[table] = read
    return ProjectFile(path, common, own, **current)


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise LabeldepError(
            f"the project file {path} cannot be read: {error.strerror}",
            f"Name another (--project FILE, or the variable {VARIABLE}), or write one: labeldep init",
        ) from None
    except UnicodeDecodeError:
        raise LabeldepError(f"{path} is not UTF-8", "Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise LabeldepError(
            f"{path} is no TOML: {error}",
            'Lines are KEY = VALUE below a [TABLE]; texts stand between quotes: dataset = "coco"',
        ) from None


def _no_table(path: Path, table: str, entries: object, commands: Commands) -> LabeldepError:
    if not isinstance(entries, dict):
        return LabeldepError(
            f"{path}: {table} stands in no table", f"Put it below [{DEFAULTS}], or below a command such as [pretrain]."
        )
    return LabeldepError(f"{path}: there is no command for the table [{table}]", nearest(table, (DEFAULTS, *commands)))


def _flags_for(path: Path, table: str, key: str, known: list[tuple[Flag, ...]]) -> list[Flag]:
    """The flags that a key means: one of a command; in [defaults] one of each command that has it."""
    if table == DEFAULTS and _plain(key) in _EACH_ITS_OWN:
        raise LabeldepError(
            f"{path}, [{table}] {key}: every command writes something else", "Put it into the table of one command."
        )
    found = [flag for flags in known for flag in flags if _plain(key) in flag.keys]
    if not found:
        words = (word for flags in known for flag in flags for word in (*flag.words, flag.off) if word)
        whose = "no command has" if table == DEFAULTS else f"labeldep {table} has no"
        raise LabeldepError(f"{path}, [{table}] {key}: {whose} flag of this name", nearest(key, words))
    return found


def _value(path: Path, table: str, key: str, flags: list[Flag], value: object) -> object:
    """The value of a key; the first of the flags that takes it says how it is read.

    Raises:
        LabeldepError: none of them takes it; names file, table and key.
    """
    errors = []
    for flag in flags:
        try:
            found = flag.read(value)
        except ValueError as error:
            errors.append(error)
        else:
            return not found if _plain(key) == _plain(flag.off) else _from_folder(flag, found, path.parent)
    raise LabeldepError(f"{path}, [{table}] {key}: {errors[0]}")


def _plain(key: str) -> str:
    return key.replace("-", "_")


def _from_folder(flag: Flag, value: object, folder: Path) -> object:
    """A path of the file as seen from the working directory; what is a name stays one."""
    if not isinstance(value, str):
        return value
    value = expand_home(value)
    if flag.kind is Path:
        return str(folder / value)
    if flag.name not in _MAYBE_PATHS or value in DATASETS or not value:
        return value
    is_file_name = flag.name in ("dataset", "weights") and ("/" in value or "." in value)
    return str(folder / value) if is_file_name or (folder / value).exists() else value


def loading(commands: Callable[[], Commands]) -> Callable[[typer.Context, Path | None], Path | None]:
    """A callback of `--project`: reads the file, and makes its values the defaults of the commands.

    It also runs while a shell completes a word, so that runs are completed from the project's own folder. Faults of the
    file are kept for `require_sound` and `faults_of`.
    """

    def read(ctx: typer.Context, named: Path | None) -> Path | None:
        ctx.meta[_FLAGS] = commands
        named = named and expand_home(named)
        path = locate(named)
        if path is None:
            return named
        known = commands()
        errors: dict[str, LabeldepError] = {}
        try:
            file = load(path, known)
        except LabeldepError as error:
            ctx.obj, ctx.meta[_ERRORS] = ProjectFile(path), dict.fromkeys(known, error)
            return named
        ctx.obj, ctx.default_map = file, {}
        for command, flags in known.items():
            try:
                ctx.default_map[command] = file.values_of(command, flags)
            except LabeldepError as error:
                errors[command] = error
        ctx.meta[_ERRORS] = errors
        return named

    return read


def require_sound(ctx: typer.Context) -> None:
    """Refuse to run a command if the project file has a fault that concerns it; `doctor` shows the fault instead.

    Raises:
        LabeldepError: as `load`.
    """
    error = ctx.meta.get(_ERRORS, {}).get(ctx.info_name)
    if error is not None and ctx.info_name != "doctor":
        raise error


def faults_of(ctx: typer.Context) -> list[LabeldepError]:
    """The faults of the project file, each once."""
    errors: Mapping[str, LabeldepError] = ctx.meta.get(_ERRORS, {})
    return list({error.what: error for error in errors.values()}.values())
