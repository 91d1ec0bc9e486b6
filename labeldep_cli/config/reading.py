"""Values of settings out of what a user writes; a ValueError says what is wrong with it."""

from __future__ import annotations

import re

from labeldep_cli.config.choices import TUNED

_UNITS = {"": 1, "B": 1} | {f"{unit}B": 1000 ** (k + 1) for k, unit in enumerate("KMGT")}
_UNITS |= {f"{unit}IB": 1024 ** (k + 1) for k, unit in enumerate("KMGT")}


def read_size(text: str | int) -> int:
    """Bytes of "300MB", "8GB", "1.5GiB" or a plain number.

    Raises:
        ValueError: it is no size, or not even one byte.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([A-Z]*)", str(text).strip().upper())
    size = int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size; name one like 300MB, 8GB or 1.5GiB")
    return size


def read_threshold(text: str) -> str:
    """A threshold as `DecisionConfig` takes it: "tuned", "tuned-per-label" or a probability.

    Raises:
        ValueError: it is none of these.
    """
    if text not in TUNED:
        try:
            inside = 0 <= float(text) <= 1
        except ValueError:
            inside = False
        if not inside:
            raise ValueError(f"{text!r}: name a probability between 0 and 1, tuned or tuned-per-label")
    return text


def read_numbers(text: str) -> tuple[int, ...]:
    """The numbers of "1,3".

    Raises:
        ValueError: one of them is none.
    """
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no list of numbers such as 1,3") from None


def read_names(text: str) -> tuple[str, ...]:
    """The names of "resnet101, vgg16"."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
