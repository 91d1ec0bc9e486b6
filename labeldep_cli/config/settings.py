"""How settings are declared, compared, and rebuilt from a record.

A field of a config that is made with `setting` is a flag of every command that takes the config. All that the command
line needs to know about the flag is declared with the field.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeVar, cast

from labeldep_cli.schemas import conform

Panel = Literal["What", "The paper's own", "How", "Download", "Where", "Output"]
"""The section of a command's help that lists the flag."""

DefaultText = Callable[[type[Any]], str]
"""Describes, for a config class, the value of a setting that the user does not give."""

T = TypeVar("T")

_KEY = "setting"


@dataclass(frozen=True)
class Setting:
    """What the command line needs to know about a field.

    Attributes:
        help: one sentence that can be read alone. "{datasets}" and "{formats}" are replaced by the names of the data
            sets and file formats, which this module does not know.
        panel: the section of the help.
        min, max: the range of a number, inclusive.
        flag: the spelling of the flag ("--conditional/--unconditional"); made from the field's name if empty.
        envvar: the environment variable that gives the value if the flag does not.
        metavar: the placeholder of the value in the help.
        parser: parses the value; raises ValueError with a message for the user.
        complete: the name of the function in cli.complete that completes the value in a shell.
        choices: the allowed numbers, if there are only a few.
        default_text: if the default is None, the value that it stands for: a text, or a function of the config class.
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
        """The value that a default of None stands for in a config, in words; empty if the default says it itself."""
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
    """A field of a config that is also a flag; for the arguments, see `Setting`."""
    declared = Setting(help, panel, min, max, flag, envvar, metavar, parser, complete, choices, default_text)
    return dataclasses.field(default=default, metadata={_KEY: declared})


def like(config: type[Any], name: str, **changes: object) -> Any:  # noqa: ANN401 - a field, as `dataclasses.field`
    """A field with the flag and the default of a field of another config.

    Args:
        config: the other config class.
        name: the name of the field there.
        changes: attributes of `Setting` that differ, or `default` for another default.
    """
    (field,) = (field for field in fields(config) if field.name == name)
    default = changes.pop("default", field.default)
    declared = dataclasses.replace(field.metadata[_KEY], **cast("dict[str, Any]", changes))
    return dataclasses.field(default=default, metadata={_KEY: declared})


def settings_of(config: type[Any]) -> dict[str, Setting]:
    """The settings of the fields of a config that are flags, by field name, in order of declaration."""
    return {field.name: field.metadata[_KEY] for field in fields(config) if _KEY in field.metadata}


def changed(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Name the settings that differ, each as "alpha 10.0 there, 5.0 here"."""
    return [
        f"{name} {there.get(name)!r} there, {here.get(name)!r} here"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def pick(config: type[T], settings: Mapping[str, Any]) -> T:
    """Build a config from recorded settings. Those that are not fields of it are ignored.

    Raises:
        ValueError: a setting has another type or range than its flag takes; names it.
    """
    picked = conform(settings, config)
    for name, declared in settings_of(config).items():
        value = getattr(picked, name)
        if isinstance(value, int | float) and not _is_in_range(value, declared):
            raise ValueError(f"{name}: {value!r} is out of range")
    return picked


def _is_in_range(value: float, declared: Setting) -> bool:
    low, high = declared.min, declared.max
    within = (low is None or value >= low) and (high is None or value <= high) and math.isfinite(value)
    return within and (not declared.choices or value in declared.choices)


def flags_of(config: object, names: Iterable[str]) -> list[str]:
    """The arguments for those fields that differ from their defaults: "--val-fraction", "0.2", "--no-corrections"."""
    values = ((name, getattr(config, name)) for name in names)
    changes = [(name.replace("_", "-"), value) for name, value in values if value != getattr(type(config), name)]
    words: list[str] = []
    for name, value in changes:
        words += [f"--{'' if value else 'no-'}{name}"] if isinstance(value, bool) else [f"--{name}", str(value)]
    return words
