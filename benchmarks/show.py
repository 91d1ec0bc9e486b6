"""How a benchmark's result is shown: one JSON object, or tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from labeldep_cli.cli.show import print_table


class Table(NamedTuple):
    """A table: its title, its columns, its rows; the first `words` columns are text, the others numbers."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1


def show(found: Mapping[str, Any], tables: Iterable[Table], as_json: bool) -> None:
    """Print a benchmark's result on stdout."""
    if as_json:
        print(json.dumps(found))
        return
    for table in tables:
        print_table(table.title, table.header, table.rows, text=table.words)


def told(interval: Mapping[str, float], scale: float = 1.0, digits: int = 1) -> str:
    """An interval in words: "+3.1 [+2.0, +4.2]"."""
    middle, low, high = (f"{scale * interval[key]:+.{digits}f}" for key in ("difference", "low", "high"))
    return f"{middle} [{low}, {high}]"
