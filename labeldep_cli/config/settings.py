"""Settings as values: compared, and built again from a record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any


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
