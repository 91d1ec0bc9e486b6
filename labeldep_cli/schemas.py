"""Schemas of the JSON files that labeldep writes and reads back: a value is checked before it is used.

A schema is a type that msgspec understands: a TypedDict, a dataclass, or a type with a range. Fields that a schema does
not name are left alone, so that an older version reads what a newer one has added.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
"""A number of things, or a step."""

Positive = Annotated[int, Meta(ge=1, le=2**63 - 1)]

_LARGEST = sys.float_info.max

Real = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
"""Neither NaN nor infinite."""

NonNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]

Share = Annotated[float, Meta(ge=0, le=1)]

Names = list[str]
"""Names of labels, files or settings."""

CHECKSUM = "checksum"
"""The field of a record that has the CRC-32 of the others."""

T = TypeVar("T")

_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_WORDS = {
    "`object`": "an object",
    "`array`": "a list",
    "array": "a list",
    f"`float` >= {-_LARGEST}": "a finite number",
    f"`float` <= {_LARGEST}": "a finite number",
}


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def conform(value: object, schema: type[T], field: str = "") -> T:
    """A value as a schema has it: a dataclass is built, a field that the schema does not name is left out.

    Args:
        value: what a JSON text holds.
        schema: what it must be.
        field: the field of a file that holds the value, for the error; empty for the whole file.

    Raises:
        ValueError: it does not conform; names the field, and what it must be.
    """
    try:
        return msgspec.convert(value, schema)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(_in_words(str(error), field)) from error


def _in_words(error: str, field: str) -> str:
    """What msgspec says, in words of labeldep: "settings.views: expected int >= 1"."""
    what, _, place = error.partition(" - at `$")
    within = f"{field}{place.removesuffix('`')}".lstrip(".")
    if missing := _MISSING.fullmatch(what):
        return f"it has no {f'{within}.' if within else ''}{missing[1]}"
    for name, word in _WORDS.items():
        what = what.replace(name, word)
    return f"{within or 'the file'}: {what[:1].lower()}{what[1:].replace('`', '')}"


def sealed(record: Mapping[str, Any], without: Sequence[str] = ()) -> dict[str, Any]:
    """A record with a checksum of all its fields, but for some that tell no result, such as times."""
    return {**record, CHECKSUM: _checksum(record, without)}


def require_unchanged(record: Mapping[str, Any], without: Sequence[str] = ()) -> None:
    """Refuse a record that is not as `sealed` has made it. One without a checksum is not checked.

    Raises:
        ValueError: it has changed; says how a person confirms a change that was made on purpose.
    """
    if CHECKSUM in record and record[CHECKSUM] != _checksum(record, without):
        raise ValueError(f"it is not as it was written; if you changed it on purpose, remove its field {CHECKSUM}")


def _checksum(record: Mapping[str, Any], without: Sequence[str]) -> int:
    fields = {name: value for name, value in record.items() if name != CHECKSUM and name not in without}
    return zlib.crc32(json.dumps(fields, sort_keys=True).encode())
