"""Settings as values: declared, compared, and built again from a record.

A field of a config that is made with `setting` is a flag of every command that takes the config: what the command line
has to know of it stands here, with the field, and nowhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, cast

Panel = Literal["What", "The paper's own", "How", "Download", "Where", "Output"]
"""The part of a command's help that a flag stands in."""

DefaultText = Callable[[type[Any]], str]
"""Says of a config what a setting is where it is not given."""

T = TypeVar("T")

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """What the command line knows of a field.

    Attributes:
        help: one sentence that can be read alone; "{datasets}" stands for the named data sets, which config knows not.
        panel: the part of the help it stands in.
        min, max: the range of a number, both ends in it.
        flag: the flag's own words ("--conditional/--unconditional"); from the field's name if empty.
        envvar: the environment variable that gives the value where the flag does not.
        metavar: what stands for the value in the help.
        parser: reads the value; a ValueError of it says what is wrong.
        complete: the name of what a shell completes the value to, a function of cli.complete.
        choices: the numbers that are allowed, where these are few.
        default_text: where the default is None, what that comes to, in words or asked of the config.
    """

    help: str
    panel: Panel = "How"
    min: float | None = None
    max: float | None = None
    flag: str = ""
    envvar: str | None = None
    metavar: str | None = None
    parser: Callable[[str], object] | None = None
    complete: str | None = None
    choices: tuple[int, ...] = ()
    default_text: str | DefaultText = ""

    def default_text_of(self, config: type[Any]) -> str:
        """What a value that is not given comes to in a config; nothing where the default itself says it."""
        return self.default_text(config) if callable(self.default_text) else self.default_text


def setting(
    default: T,
    help: str,
    *,
    panel: Panel = "How",
    min: float | None = None,
    max: float | None = None,
    flag: str = "",
    envvar: str | None = None,
    metavar: str | None = None,
    parser: Callable[[str], object] | None = None,
    complete: str | None = None,
    choices: tuple[int, ...] = (),
    default_text: str | DefaultText = "",
) -> T:
    """A field of a config that is a flag as well; for the arguments, see `Setting`."""
    facts = Setting(help, panel, min, max, flag, envvar, metavar, parser, complete, choices, default_text)
    return dataclasses.field(default=default, metadata={_KEY: facts})


def like(config: type[Any], name: str, **changes: object) -> Any:  # noqa: ANN401 - a field, as `dataclasses.field`
    """A field that is the same flag as one of another config, with the same default unless `default` is given."""
    (field,) = (field for field in fields(config) if field.name == name)
    default = changes.pop("default", field.default)
    facts = dataclasses.replace(field.metadata[_KEY], **cast("dict[str, Any]", changes))
    return dataclasses.field(default=default, metadata={_KEY: facts})


def settings_of(config: type[Any]) -> dict[str, Setting]:
    """The fields of a config that are flags, in their order."""
    return {field.name: field.metadata[_KEY] for field in fields(config) if _KEY in field.metadata}


def changed(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ, each as "alpha 10.0 there, 5.0 here"."""
    return [
        f"{name} {theirs.get(name)!r} there, {mine.get(name)!r} here"
        for name in sorted(mine.keys() | theirs.keys())
        if mine.get(name) != theirs.get(name)
    ]


def pick(config: type[Any], settings: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an instance of the class given
    """Build a config from the settings that it knows, ignoring others."""
    known = {f.name for f in fields(config)}
    return config(**{name: value for name, value in settings.items() if name in known})


def flags_of(config: object, names: Iterable[str]) -> list[str]:
    """The words of the command line that say what differs from the defaults: "--val-fraction", "0.2"."""
    given = ((name, getattr(config, name)) for name in names)
    changes = ((name, value) for name, value in given if value != getattr(type(config), name))
    return [word for name, value in changes for word in (f"--{name.replace('_', '-')}", str(value))]
