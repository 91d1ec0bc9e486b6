"""Values of JSON that say something about labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from labeldep_cli.datasets.doubts.values import ABSENT, BLANK, PRESENT, VALUE_CODES


def code_of_json(value: object) -> int | None:
    """The code of a value that says whether a label is present, as in `doubts.values`; None for anything else."""
    return BLANK if value is None else VALUE_CODES.get(str(value).strip())


def is_label(column: Sequence[object]) -> bool:
    """Whether a key has 1 and 0, and nothing else but -1 and null."""
    codes = {None if value == "" else code_of_json(value) for value in column}
    return None not in codes and bool(codes & {PRESENT, ABSENT})


def is_numbers(listed: list[Any]) -> bool:
    """Whether a list has whole numbers, or null, and nothing else."""
    return all(v is None or isinstance(v, int) or (isinstance(v, float) and v.is_integer()) for v in listed)


def is_share(value: object) -> bool:
    """Whether a value says how sure one is of a label."""
    return isinstance(value, float) and 0 <= value <= 1


def list_of(text: str) -> list[Any] | str:
    """The list that a text is in JSON, or the list within {"choices": [...]}; the text itself if it is neither."""
    if not text.strip().startswith(("[", "{")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, dict) and value.keys() == {"choices"}:
        value = value["choices"]
    return value if isinstance(value, list) else text
