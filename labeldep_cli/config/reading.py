"""Parsers of settings from the text that a user writes; they raise ValueError with a message for the user."""

from __future__ import annotations

import re

from labeldep_cli.config.choices import TUNED

_UNITS = {"": 1, "B": 1} | {f"{unit}B": 1000 ** (k + 1) for k, unit in enumerate("KMGT")}
_UNITS |= {f"{unit}IB": 1024 ** (k + 1) for k, unit in enumerate("KMGT")}


def read_size(text: str | int) -> int:
    """Number of bytes from "300MB", "8GB", "1.5GiB" or a plain number.

    Raises:
        ValueError: the text is not a size, or it is less than one byte.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d+)?)\s*([A-Z]*)", str(text).strip().upper())
    size = int(float(match[1]) * _UNITS[match[2]]) if match and match[2] in _UNITS else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size; name one like 300MB, 8GB or 1.5GiB")
    return size


def read_threshold(text: str) -> str:
    """A threshold for `DecisionConfig`: "tuned", "tuned-per-label" or a probability, unchanged.

    Raises:
        ValueError: the text is none of these.
    """
    if text not in TUNED:
        try:
            is_probability = 0 <= float(text) <= 1
        except ValueError:
            is_probability = False
        if not is_probability:
            raise ValueError(f"{text!r}: name a probability between 0 and 1, tuned or tuned-per-label")
    return text


def read_numbers(text: str) -> tuple[int, ...]:
    """The integers of a list such as "1,3".

    Raises:
        ValueError: an item is not an integer.
    """
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no list of numbers such as 1,3") from None


def read_names(text: str) -> tuple[str, ...]:
    """The names of a list such as "resnet101, vgg16"."""
    return tuple(name.strip() for name in text.split(",") if name.strip())
