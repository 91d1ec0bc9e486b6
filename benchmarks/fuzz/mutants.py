"""Changes to the content of a file: to its bytes, to its text, to values in its JSON. All follow from a seed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

Draws = np.random.Generator
Mutator = Callable[[bytes, Draws], bytes]
"""(unharmed content, random numbers) -> changed content."""

VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2**31, 10**30, -0.5, 1e308, float("nan"), float("inf"),
    "", "x", "[/red]", "<script>", "=1+1", "../..", "\ud800", "\x00", "a" * 5000, [], {}, [[]], [None], {"x": 1},
)  # fmt: skip
"""What a value of a JSON file is replaced by."""

TOKENS = (
    b"",
    b",",
    b";",
    b'"',
    b"\t",
    b"\n",
    b"\r",
    b"\x00",
    b"\xff",
    b"-1",
    b"nan",
    b"1e999",
    b"[/b]",
    b"=1+1",
    b"\xef\xbb\xbf",
)
"""What is put into a text file."""


def changed_bytes(content: bytes, draws: Draws) -> bytes:
    """One to eight bytes are changed; or some are cut out, repeated, or cut off at the end."""
    kind = draws.integers(6)
    data = bytearray(content)
    place, length = int(draws.integers(len(data))), int(draws.integers(1, 64))
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        return bytes(data[:place] + data[place + length :])
    if kind == 2:
        return bytes(data[:place] + data[place : place + length] * 2 + data[place + length :])
    for where in draws.integers(len(data), size=draws.integers(1, 9)):
        data[where] = int(draws.integers(256))
    return bytes(data)


def changed_text(content: bytes, draws: Draws) -> bytes:
    """A token is put in, or in place of some bytes; or the bytes are changed."""
    if draws.random() < 0.3:
        return changed_bytes(content, draws)
    place, length = int(draws.integers(len(content))), int(draws.integers(0, 4))
    return content[:place] + TOKENS[draws.integers(len(TOKENS))] + content[place + length :]


def changed_json(content: bytes, draws: Draws) -> bytes:
    """A value anywhere in a JSON document is replaced, removed or renamed; or its text is changed."""
    if draws.random() < 0.15:
        return changed_text(content, draws)
    document = json.loads(content)
    places = list(_places(document, ()))
    path = places[draws.integers(len(places))]
    if not path:
        return _dumped(_value(draws))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    kind = draws.integers(4)
    if kind == 0:
        del parent[path[-1]]
    elif kind == 1 and isinstance(parent, dict):
        parent[f"{path[-1]}x"] = parent.pop(path[-1])
    else:
        parent[path[-1]] = _value(draws)
    return _dumped(document)


def changed_lines(content: bytes, draws: Draws) -> bytes:
    """One line of a JSONL file is changed as a JSON document."""
    lines = content.splitlines(keepends=True)
    row = int(draws.integers(len(lines)))
    lines[row] = changed_json(lines[row], draws) + b"\n"
    return b"".join(lines)


def changed_head(content: bytes, draws: Draws) -> bytes:
    """The JSON head of a safetensors file is changed, or any of its bytes.

    Facts of labeldep are JSON within a text of that JSON; half of the changes are made there.
    """
    if draws.random() < 0.4:
        return changed_bytes(content, draws)
    length = int.from_bytes(content[:8], "little")
    head = json.loads(content[8 : 8 + length])
    facts = head.get("__metadata__", {}).get("labeldep")
    if facts is not None and draws.random() < 0.7:
        head["__metadata__"]["labeldep"] = changed_json(facts.encode(), draws).decode("utf-8", "replace")
        changed = _dumped(head)
    else:
        changed = changed_json(content[8 : 8 + length], draws)
    return len(changed).to_bytes(8, "little") + changed + content[8 + length :]


def _places(value: Any, path: tuple[Any, ...]) -> Any:  # noqa: ANN401 - paths to all values of a document
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _places(item, (*path, key))


def _value(draws: Draws) -> Any:  # noqa: ANN401 - any JSON value
    return VALUES[draws.integers(len(VALUES))]


def _dumped(document: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return json.dumps(document).encode()
