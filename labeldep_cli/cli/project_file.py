"""`labeldep.toml`: flags that all commands of a project share, written once.

    [defaults]                         # for every command that has the flag
    dataset = "photos/labels.csv"
    val-fraction = 0.2

    [adversarial]                      # for one command
    critic = "nce"

Its values become click's `default_map`. Flags override the environment, the environment overrides the file, and the
file overrides the defaults. Paths in it are relative to its folder.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import typer

from labeldep_cli.cli.command_flags import Flag
from labeldep_cli.config import BACKBONE, READING, RunWorkspace, Scope
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

_OF_DATA = frozenset({"dataset", *BACKBONE, "data_dir", *READING})
KEPT_OUT: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("eval", "compare", "dependency", "predict", "export", "report", "runs"), _OF_DATA),
    "audit": frozenset({"dataset"}),
    "features": frozenset({"dataset"}),
}
"""Flags of each command that [defaults] does not set. For `features`, a data set is one whose images are searched for.

These commands name a run, and a run has its own data, backbone and weights. On them such a flag means that data or
weights have moved, or that another data set is scored. A project's data set in [defaults] does not mean that. In the
command's own table it does.
"""

_EACH_ITS_OWN = frozenset({"out"})
"""Flags that cannot have the same value for two commands."""

_FLAGS = "labeldep.flags"
"""Key in the meta data of click's context: the function that returns the flags of all commands."""

_ERRORS = "labeldep.project_errors"
"""Key in the meta data of click's context: the errors in the file, by command."""

_MAYBE_PATHS = frozenset({"dataset", "weights", "start", "run"})
"""Flags whose value is a name or a path."""


@dataclass(frozen=True)
class ProjectFile:
    """The project file of this call.

    Attributes:
        path: path of the file; None if there is none.
        common: the table [defaults] as written.
        own: the tables of commands; their keys are the parameter names of the commands' functions.
        defaults: the values of [defaults] by the parameter names of the commands' functions.
    """

    path: Path | None = None
    common: Mapping[str, object] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    defaults: Mapping[str, object] = field(default_factory=dict)

    @property
    def scope(self) -> Scope:
        """The data set and the backbone of [defaults]: runs are looked up among theirs."""
        dataset, backbone = (self.defaults.get(name) for name in ("dataset", "backbone"))
        return Scope(None if dataset is None else str(dataset), None if backbone is None else str(backbone))

    def values_of(self, command: str, flags: Iterable[Flag]) -> dict[str, object]:
        """The values that the file sets for a command, by the parameter names of its function.

        Raises:
            LabeldepError: a value of [defaults] does not fit this command's flag.
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
        """Whether a command's own table sets a flag."""
        return name in self.own.get(command, {})

    def to_json(self) -> dict[str, Any]:
        """The file's path and tables, for `doctor --json`."""
        tables = {DEFAULTS: self.common} if self.common else {}
        return {"path": str(self.path), "tables": {**tables, **self.own}}


NO_FILE = ProjectFile()


def of_call(ctx: typer.Context) -> ProjectFile:
    """The project file of this call; `NO_FILE` if there is none."""
    return ctx.find_object(ProjectFile) or NO_FILE


def scoped(ctx: typer.Context, run_workspace: RunWorkspace) -> RunWorkspace:
    """Limit the look-up of run names to the data set and backbone of the project file."""
    return replace(run_workspace, scope=of_call(ctx).scope)


def all_flags(ctx: typer.Context) -> Commands:
    """The flags of each command of the program that this call belongs to."""
    commands: Commands = ctx.meta[_FLAGS]() if _FLAGS in ctx.meta else {}
    return commands


def locate(named: Path | None) -> Path | None:
    """The file to read: the named file, labeldep.toml in the named folder, or else in the working directory."""
    if named is None:
        return Path(NAME) if Path(NAME).is_file() else None
    return named / NAME if named.is_dir() else named


def load(path: Path, commands: Commands) -> ProjectFile:
    """Read a project file and check each key and value.

    Args:
        path: path of the file.
        commands: all commands with their flags.

    Raises:
        LabeldepError: the file is missing or not TOML, or a table, key or value in it is wrong. The message names the
            file and the key.
    """
    common: dict[str, object] = {}
    tables: dict[str, dict[str, object]] = {}
    defaults: dict[str, object] = {}
    for table, entries in _parse(path).items():
        if table not in (DEFAULTS, *commands) or not isinstance(entries, dict):
            raise _no_table(path, table, entries, commands)
        known = [*commands.values()] if table == DEFAULTS else [commands[table]]
        read: dict[str, object] = {}
        for key, value in entries.items():
            flags = _flags_for(path, table, key, known)
            if flags[0].name in read:
                raise LabeldepError(f"{path}, [{table}] {key}: this flag is set twice", "Keep one of the two.")
            read[flags[0].name] = _value(path, table, key, flags, value)
        if table == DEFAULTS:
            common = entries
            defaults = read
        else:
            tables[table] = read
    return ProjectFile(path, common, tables, defaults)


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
            f"{path} is not valid TOML: {error}",
            'Lines are KEY = VALUE below a [TABLE]; text is in quotes: dataset = "coco"',
        ) from None


def _no_table(path: Path, table: str, entries: object, commands: Commands) -> LabeldepError:
    if not isinstance(entries, dict):
        return LabeldepError(
            f"{path}: {table} is not in a table", f"Put it below [{DEFAULTS}], or below a command such as [pretrain]."
        )
    return LabeldepError(
        f"{path}: the table [{table}] is not the name of a command", nearest(table, (DEFAULTS, *commands))
    )


def _flags_for(path: Path, table: str, key: str, known: list[tuple[Flag, ...]]) -> list[Flag]:
    """The flags that a key sets: one of the table's command, or in [defaults] one of each command that has it."""
    if table == DEFAULTS and _plain(key) in _EACH_ITS_OWN:
        raise LabeldepError(
            f"{path}, [{table}] {key}: this cannot be the same for all commands",
            "Put it into the table of one command.",
        )
    matches = [flag for flags in known for flag in flags if _plain(key) in flag.keys]
    if not matches:
        words = (word for flags in known for flag in flags for word in (*flag.words, flag.off) if word)
        whose = "no command has a" if table == DEFAULTS else f"labeldep {table} has no"
        raise LabeldepError(f"{path}, [{table}] {key}: {whose} flag of this name", nearest(key, words))
    return matches


def _value(path: Path, table: str, key: str, flags: list[Flag], value: object) -> object:
    """The value of a key, read by the first flag that accepts it.

    Raises:
        LabeldepError: no flag accepts it; the message names file, table and key.
    """
    errors = []
    for flag in flags:
        try:
            parsed = flag.read(value)
        except ValueError as error:
            errors.append(error)
        else:
            return not parsed if _plain(key) == _plain(flag.off) else _from_folder(flag, parsed, path.parent)
    raise LabeldepError(f"{path}, [{table}] {key}: {errors[0]}")


def _plain(key: str) -> str:
    return key.replace("-", "_")


def _from_folder(flag: Flag, value: object, folder: Path) -> object:
    """Make a path that is relative to the file's folder relative to the working directory; names stay unchanged."""
    if isinstance(value, list):
        return [_from_folder(flag, part, folder) for part in value]
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
    """Make the callback of `--project`, which reads the file and makes its values the defaults of the commands.

    The callback also runs when a shell completes a word, so that runs are completed from the project's own folder.
    Faults in the file are kept for `require_sound` and `faults_of`.
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
        LabeldepError: the error that `load` raised.
    """
    error = ctx.meta.get(_ERRORS, {}).get(ctx.info_name)
    if error is not None and ctx.info_name != "doctor":
        raise error


def faults_of(ctx: typer.Context) -> list[LabeldepError]:
    """The faults of the project file, each once."""
    errors: Mapping[str, LabeldepError] = ctx.meta.get(_ERRORS, {})
    return list({error.what: error for error in errors.values()}.values())
