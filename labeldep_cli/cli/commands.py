"""Makes commands from functions that take configs: each setting of a config becomes a flag of the command.

    def data(*, source: Annotated[Source, Take("split_seed")], json: flags.Json = False) -> None: ...

    app.command("data", cls=ProjectCommand)(command(data))  # labeldep data --split-seed 1 --json

calls `data(source=Source(split_seed=1), json=True)`. Other parameters of the function are left to Typer.
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
from labeldep_cli.ingest.forms import FORMS

T = TypeVar("T")


class Take:
    """Which settings of a config a command has as flags, and which help texts and defaults differ there.

    Args:
        only: names of the settings; none for all settings of the config.
        without: names of settings to leave out.
        help: help texts that replace those of the settings.
        default: defaults that replace those of the config.
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
        """The selected settings of a config, by name.

        Raises:
            TypeError: the config has no setting of such a name.
        """
        known = settings_of(config)
        if unknown := {*self.only, *self.without, *self.help, *self.default} - known.keys():
            raise TypeError(f"{config.__name__} has no setting {', '.join(sorted(unknown))}")
        return {
            name: setting
            for name, setting in known.items()
            if name in (self.only or known) and name not in self.without
        }


@dataclass
class _Group:
    """A parameter of a function that takes a config: the config's class, and a reader for each flag's value."""

    config: type[Any]
    readers: dict[str, Callable[[Any], object]] = field(default_factory=dict)

    def build(self, values: Mapping[str, object]) -> object:
        """Build the config; settings without a value keep the config's default."""
        selected = {name: values[name] for name in self.readers}
        return self.config(**{name: self.readers[name](v) for name, v in selected.items() if v is not None})


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each config parameter of a function by one parameter per setting, so that Typer can register it.

    Raises:
        TypeError: two of the new parameters have the same name.
    """
    groups: dict[str, _Group] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        config, take = _config_of(parameter.annotation)
        if config is None:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        groups[parameter.name] = group = _Group(config)
        for name, setting in take.of(config).items():
            parameter, group.readers[name] = _flag(config, name, setting, take)
            parameters.append(parameter)

    def run(**values: object) -> None:
        values = {name: _with_home(value) for name, value in values.items()}
        configs = {name: group.build(values) for name, group in groups.items()}
        flags = {name for group in groups.values() for name in group.readers}
        function(**{name: value for name, value in values.items() if name not in flags}, **configs)

    names = [parameter.name for parameter in parameters]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise TypeError(f"{function.__name__} has {', '.join(sorted(duplicates))} twice")
    run.__name__, run.__doc__, run.__module__ = function.__name__, function.__doc__, function.__module__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(run)["__signature__"] = inspect.Signature(parameters)
    return run


def _config_of(annotation: object) -> tuple[type[Any] | None, Take]:
    """The config class in a parameter's annotation, if there is one, and the selection of its settings."""
    kind, *metadata = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if not (isinstance(kind, type) and is_dataclass(kind)):
        return None, Take()
    return kind, next((item for item in metadata if isinstance(item, Take)), Take())


def _flag(
    config: type[Any], name: str, setting: Setting, take: Take
) -> tuple[inspect.Parameter, Callable[[Any], object]]:
    """A setting as a parameter that Typer reads, and the function that converts Typer's value to the setting's."""
    kind: object = get_type_hints(config)[name]
    default = take.default.get(name, next(f.default for f in fields(config) if f.name == name))
    default_text = "" if name in take.default else setting.default_text_of(config)
    read: Callable[[Any], object] = _unchanged
    if setting.parser:
        kind, default = str | None, default or None
    elif setting.choices:
        kind, default, read = Literal[tuple(map(str, setting.choices))], str(default), int
    words = setting.flag or f"--{name.replace('_', '-')}" + (
        f"/--no-{name.replace('_', '-')}" if default is True else ""
    )
    option = typer.Option(
        words,
        help=_filled_in(take.help.get(name, setting.help)),
        rich_help_panel=setting.panel,
        min=setting.min,
        max=setting.max,
        envvar=setting.envvar,
        metavar=setting.metavar,
        parser=refusing(setting.parser) if setting.parser else None,
        autocompletion=getattr(complete, setting.complete) if setting.complete else None,
        show_default=default_text or True,
    )
    parameter = inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )
    return parameter, read


def _filled_in(help: str) -> str:
    """A help text with the names from the tables of data sets, file formats and foreign forms."""
    formats = ", ".join(row.title for row in FORMATS.values())
    filled = help.replace("{datasets}", ", ".join(DATASETS)).replace("{formats}", formats)
    return filled.replace("{forms}", ", ".join(FORMS))


def _with_home(value: object) -> object:
    """The value of a flag or argument with `~` expanded, wherever it comes from; only paths begin with `~`."""
    if isinstance(value, list):
        return [_with_home(part) for part in value]
    if isinstance(value, Path):
        return expand_home(value)
    return expand_home(value) if isinstance(value, str) else value


def _unchanged(value: T) -> T:
    return value


def refusing(parser: Callable[[str], T]) -> Callable[[str], T]:
    """Wrap a parser so that its ValueError is reported as wrong usage."""

    def read(text: str) -> T:
        try:
            return parser(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return read
