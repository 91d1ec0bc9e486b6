"""The flags of a command as data: names, types and defaults, read from the function that Typer registers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.models import OptionInfo

from labeldep_cli.errors import nearest
from labeldep_cli.files import expand_home

_RANGE_WORDS = {(True, True): "between {0:g} and {1:g}", (True, False): "{0:g} or more", (False, True): "{1:g} or less"}


@dataclass(frozen=True)
class Flag:
    """A flag of a command, or its DATASET argument.

    Attributes:
        name: name of the function's parameter.
        words: the flag's names without dashes, for example ("from",).
        off: the name that turns a switch off, without dashes; empty if there is none.
        kind: type of its value: bool, int, float, str or Path.
        default: its value if it is not set anywhere.
        choices: the words or numbers that it accepts; empty for any.
        low, high: the range of a number, both ends included.
        parser: reads its text; raises typer.BadParameter with a message if it cannot.
        envvar: the environment variable that sets it.
        repeated: it may be given several times; its value is a list.
    """

    name: str
    words: tuple[str, ...]
    off: str
    kind: type
    default: object
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    parser: Callable[[str], object] | None = None
    envvar: str | None = None
    repeated: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Its names in a project file: its words and `off`, with `_` in place of `-`."""
        return tuple(_key(word) for word in (*self.words, self.off) if word)

    def fallback(self, from_file: object) -> object:
        """Its value without a flag on the command line: the environment's, else `from_file`, else the default."""
        environment = expand_home(os.environ.get(self.envvar, "")) if self.envvar else None
        return environment or (self.default if from_file is None else from_file)

    def read(self, value: object) -> object:
        """Convert a value of a project file to what Typer accepts.

        Raises:
            ValueError: the value does not fit this flag; the message says why.
        """
        if self.repeated:
            single = replace(self, repeated=False)
            return [single.read(part) for part in (value if isinstance(value, list) else [value])]
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{value!r} is neither true nor false")
            return value
        if self.parser is not None:
            return self._parsed(value)
        if self.choices:
            if isinstance(value, bool) or str(value) not in self.choices:
                raise ValueError(
                    f"{value!r} is not one of {', '.join(self.choices)}. {nearest(str(value), self.choices)}"
                )
            return str(value)
        if self.kind in (int, float):
            return self._number(value)
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is not text in quotes")
        return value

    def _parsed(self, value: object) -> str:
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, bool) or not isinstance(part, str | int | float) for part in parts):
            raise ValueError(f"{value!r} is not text in quotes")
        text = ",".join(map(str, parts))
        try:
            if self.parser is not None:
                self.parser(text)
        except typer.BadParameter as error:
            raise ValueError(error.message) from None
        return text

    def _number(self, value: object) -> int | float:
        kinds = (int,) if self.kind is int else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ValueError(f"{value!r} is not {'an integer' if self.kind is int else 'a number'}")
        low, high = self.low, self.high
        if (low is not None and value < low) or (high is not None and value > high):
            words = _RANGE_WORDS[low is not None, high is not None].format(low or 0.0, high or 0.0)
            raise ValueError(f"{value!r} is not {words}")
        return value


def flags_of_command(function: Callable[..., None]) -> tuple[Flag, ...]:
    """The flags of a command, and its argument DATASET, if it has one.

    Args:
        function: a command, as returned by `commands.command`.
    """
    flags = []
    for parameter in inspect.signature(function).parameters.values():
        annotation = parameter.annotation
        if get_origin(annotation) is not Annotated:
            continue
        kind, info = get_args(annotation)[:2]
        if isinstance(info, OptionInfo) or parameter.name == "dataset":
            flags.append(_flag(parameter, kind, info))
    return tuple(flags)


def _flag(parameter: inspect.Parameter, annotation: object, info: Any) -> Flag:  # noqa: ANN401 - typer's OptionInfo
    repeated, kind, choices = _kind_of(annotation)
    # Inside Annotated, Typer keeps the first name in the field of the default.
    declared = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    words = [name.split("/")[0] for name in declared if name.startswith("--")]
    off = next((name.split("/")[1] for name in declared if "/" in name), "")
    return Flag(
        parameter.name,
        tuple(word.removeprefix("--") for word in words) or (parameter.name.replace("_", "-"),),
        off.removeprefix("--"),
        kind,
        parameter.default,
        choices,
        getattr(info, "min", None),
        getattr(info, "max", None),
        info.parser,
        info.envvar,
        repeated,
    )


def _kind_of(annotation: object) -> tuple[bool, type, tuple[str, ...]]:
    """Whether a flag may be repeated; the type of its values without None; its choices."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is Literal:
        return False, str, tuple(map(str, get_args(annotation)))
    if get_origin(annotation) is list:
        return True, *_kind_of(get_args(annotation)[0])[1:]
    return False, next((kind for kind in (bool, int, float, Path) if kind is annotation), str), ()


def _key(word: str) -> str:
    return word.replace("-", "_")
