"""What flags a command has, as data: their words, kinds and defaults, read off the function that Typer registers."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
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
        name: of the function's parameter.
        words: what turns it on or precedes its value, without dashes: ("from",).
        off: what turns a switch off, without dashes; empty where nothing does.
        kind: bool, int, float, str or Path.
        default: where nobody says anything.
        choices: the words or numbers that it takes; empty for any.
        low, high: the range of a number, both ends in it.
        parser: reads its text; what it raises says what is wrong.
        envvar: the environment variable that gives it.
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

    @property
    def keys(self) -> tuple[str, ...]:
        """How a project file calls it: its words, with - for - and for _."""
        return tuple(_key(word) for word in (*self.words, self.off) if word)

    def fallback(self, given: object) -> object:
        """Its value where no flag stands on the command line: the environment's, else `given`, else the default."""
        environment = expand_home(os.environ.get(self.envvar, "")) if self.envvar else None
        return environment or (self.default if given is None else given)

    def read(self, value: object) -> object:
        """A value of a project file as Typer takes it.

        Raises:
            ValueError: it is none of this flag; says what is wrong with it.
        """
        if self.kind is bool:
            if not isinstance(value, bool):
                raise ValueError(f"{value!r} is neither true nor false")
            return value
        if self.parser is not None:
            return self._parsed(value)
        if self.choices:
            if isinstance(value, bool) or str(value) not in self.choices:
                raise ValueError(f"{value!r} is none of {', '.join(self.choices)}. {nearest(str(value), self.choices)}")
            return str(value)
        if self.kind in (int, float):
            return self._number(value)
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is no text between quotes")
        return value

    def _parsed(self, value: object) -> str:
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, bool) or not isinstance(part, str | int | float) for part in parts):
            raise ValueError(f"{value!r} is no text between quotes")
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
            raise ValueError(f"{value!r} is no {'integer' if self.kind is int else 'number'}")
        low, high = self.low, self.high
        if (low is not None and value < low) or (high is not None and value > high):
            words = _RANGE_WORDS[low is not None, high is not None].format(low or 0.0, high or 0.0)
            raise ValueError(f"{value!r} is not {words}")
        return value


def flags_of_command(function: Callable[..., None]) -> tuple[Flag, ...]:
    """The flags of a command, and its argument DATASET, if it has that.

    Args:
        function: as `commands.command` makes it.
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
    kind, choices = _kind_of(annotation)
    # Inside Annotated the first word stands where Typer has the default.
    declared = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    words = [word for one in declared if one.startswith("-") for word in one.split("/")[:1] if word.startswith("--")]
    off = next((one.split("/")[1] for one in declared if "/" in one), "")
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
    )


def _kind_of(annotation: object) -> tuple[type, tuple[str, ...]]:
    """The kind of a flag's values without its None, and what it chooses from."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (one for one in get_args(annotation) if one is not type(None))
    if get_origin(annotation) is Literal:
        return str, tuple(map(str, get_args(annotation)))
    return next((kind for kind in (bool, int, float, Path) if kind is annotation), str), ()


def _key(word: str) -> str:
    return word.replace("-", "_")
