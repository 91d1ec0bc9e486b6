"""Parsers of settings from the text that a user writes; they raise ValueError with a message for the user."""

from __future__ import annotations

import csv
import math
import re

from labeldep_cli.config.choices import TUNED

_UNITS = {"": 1, "B": 1} | {f"{unit}B": 1000 ** (k + 1) for k, unit in enumerate("KMGT")}
_UNITS |= {f"{unit}IB": 1024 ** (k + 1) for k, unit in enumerate("KMGT")}

COLOURS = {"white": "#ffffff", "black": "#000000"}
"""Colours with a name."""


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


def read_precision(text: str) -> float:
    """A share above 0 and at most 1, from "0.95" or "95%".

    Raises:
        ValueError: the text is not such a share; a number above 1 needs its %.
    """
    number, is_percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        share = float(number) / (100 if is_percent else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise ValueError(f"{text!r}: name a share such as 0.95 or 95%")
    return share


def read_numbers(text: str) -> tuple[int, ...]:
    """The integers of a list such as "1,3".

    Raises:
        ValueError: an item is not an integer.
    """
    try:
        return tuple(int(word) for word in text.split(",") if word.strip())
    except ValueError:
        raise ValueError(f"{text!r} is no list of numbers such as 1,3") from None


def read_value_range(text: str) -> str:
    """A range of pixel values, "LOW,HIGH", in its shortest spelling.

    Raises:
        ValueError: the text is not two finite numbers, the lower one first.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is no range; name two numbers like 0,4095") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{text!r} is no range: name the lower number first, like 0,4095")
    return f"{low:.15g},{high:.15g}"


def range_of(text: str) -> tuple[float, float]:
    """The two numbers of a range that `read_value_range` has read."""
    low, high = map(float, text.split(","))
    return low, high


def read_colour(text: str) -> str:
    """A colour, unchanged: white, black or #rrggbb.

    Raises:
        ValueError: the text is none of these.
    """
    if text not in COLOURS and not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r} is no colour; name white, black or #rrggbb")
    return text


def colour_of(text: str) -> tuple[int, int, int]:
    """Red, green and blue, each 0..255, of a colour that `read_colour` has read."""
    digits = COLOURS.get(text, text).removeprefix("#")
    red, green, blue = bytes.fromhex(digits)
    return red, green, blue


def read_names(text: str) -> tuple[str, ...]:
    """The names of a list such as "resnet101, vgg16"; a name with a comma is put in double quotes."""
    names = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(name.strip() for name in names if name.strip())
