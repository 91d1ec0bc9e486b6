"""Commands out of functions that take configs: each setting of a config becomes a flag of the command.

    def data(*, source: Annotated[Source, Take("split_seed")], json: flags.Json = False) -> None: ...

    app.command("data", cls=ProjectCommand)(command(data))  # labeldep data --split-seed 1 --json

calls `data(source=Source(split_seed=1), json=True)`. What else the function takes stays as Typer reads it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import typer

from labeldep_cli.cli import complete
from labeldep_cli.config import Setting, settings_of
from labeldep_cli.datasets.formats import FORMATS
from labeldep_cli.datasets.registry import DATASETS
from labeldep_cli.files import expand_home

T = TypeVar("T")


class Take:
    """Which settings of a config a command has as flags, and what it says of them in words of its own.

    Args:
        only: their names; all of the config's if none is given.
        without: those that it does not have.
        help: help texts in place of the settings' own.
        default: defaults in place of the config's own.
    """

    def __init__(
        self,
        *only: str,
        without: tuple[str, ...] = (),
        help: Mapping[str, str] | None = None,
        default: Mapping[str, object] | None = None,
    ) -> None:
        self.only = only
        self.without = without
        self.help = dict(help or {})
        self.default = dict(default or {})

    def of(self, config: type[Any]) -> dict[str, Setting]:
        """The settings that are taken.

        Raises:
            TypeError: a name is none of a setting of the config.
        """
        known = settings_of(config)
        if unknown := {*self.only, *self.without, *self.help, *self.default} - known.keys():
            raise TypeError(f"{config.__name__} has no setting {', '.join(sorted(unknown))}")
        return {name: one for name, one in known.items() if name in (self.only or known) and name not in self.without}


@dataclass
class _Group:
    """A parameter of a function that is a config: its class, and how each of its flags' values is read."""

    config: type[Any]
    readers: dict[str, Callable[[Any], object]] = field(default_factory=dict)

    def build(self, values: Mapping[str, object]) -> object:
        """The config; what is not given is as it is there."""
        given = {name: values[name] for name in self.readers}
        return self.config(**{name: self.readers[name](v) for name, v in given.items() if v is not None})


def command(function: Callable[..., None]) -> Callable[..., None]:
    """The same function with a flag for each setting of the configs that it takes, as Typer registers it.

    Raises:
        TypeError: two of its parameters would be the same flag.
    """
    groups: dict[str, _Group] = {}
    parameters: list[inspect.Parameter] = []
    for own in inspect.signature(function, eval_str=True).parameters.values():
        config, take = _config_of(own.annotation)
        if config is None:
            parameters.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[own.name] = group = _Group(config)
        for name, one in take.of(config).items():
            parameter, group.readers[name] = _flag(config, name, one, take)
            parameters.append(parameter)

    def run(**values: object) -> None:
        values = {name: _with_home(value) for name, value in values.items()}
        configs = {name: group.build(values) for name, group in groups.items()}
        flags = {name for group in groups.values() for name in group.readers}
        function(**{name: value for name, value in values.items() if name not in flags}, **configs)

    names = [parameter.name for parameter in parameters]
    if twice := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{function.__name__} has {', '.join(sorted(twice))} twice")
    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    return run


def _config_of(annotation: object) -> tuple[type[Any] | None, Take]:
    """The config that a parameter is annotated with, if it is one, and what is taken of it."""
    kind, *further = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return None, Take()
    return kind, next((one for one in further if isinstance(one, Take)), Take())


def _flag(config: type[Any], name: str, one: Setting, take: Take) -> tuple[inspect.Parameter, Callable[[Any], object]]:
    """A setting as a parameter that Typer reads, and what makes its value out of what Typer hands over."""
    kind: object = get_type_hints(config)[name]
    default = take.default.get(name, next(f.default for f in fields(config) if f.name == name))
    default_text = "" if name in take.default else one.default_text_of(config)
    read: Callable[[Any], object] = _as_it_is
    if one.parser:
        kind, default = str | None, default or None
    elif one.choices:
        kind, default, read = Literal[tuple(map(str, one.choices))], str(default), int
    words = one.flag or f"--{name.replace('_', '-')}" + (f"/--no-{name.replace('_', '-')}" if default is True else "")
    option = typer.Option(
        words,
        help=_filled_in(take.help.get(name, one.help)),
        rich_help_panel=one.panel,
        min=one.min,
        max=one.max,
        envvar=one.envvar,
        metavar=one.metavar,
        parser=refusing(one.parser) if one.parser else None,
        autocompletion=getattr(complete, one.complete) if one.complete else None,
        show_default=default_text or True,
    )
    parameter = inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
    return parameter, read


def _filled_in(help: str) -> str:
    """A help text with the names that the tables of data sets and file formats have."""
    formats = ", ".join(row.title for row in FORMATS.values())
    return help.replace("{datasets}", ", ".join(DATASETS)).replace("{formats}", formats)


def _with_home(value: object) -> object:
    """The value of a flag or argument with `~` expanded, wherever it comes from; only paths begin with `~`."""
    if isinstance(value, list):
        return [_with_home(one) for one in value]
    if isinstance(value, Path):
        return expand_home(value)
    return expand_home(value) if isinstance(value, str) else value


def _as_it_is(value: T) -> T:
    return value


def refusing(parser: Callable[[str], T]) -> Callable[[str], T]:
    """A parser whose ValueError is told as wrong usage."""

    def read(text: str) -> T:
        try:
            return parser(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return read
