"""The range of pixel values that a person would name for images with more than 8 bits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from labeldep_cli.datasets.image_file import ImageFile
from labeldep_cli.features.deep import Values
from labeldep_cli.features.images import UnreadableImage, decode_and_measure, read_content
from labeldep_cli.features.pixel_rules import PixelRules

_MEASURED = 16
"""Images that are read again to suggest a range."""

_OF_FLOATS = (1, 100, 255, 1023, 4095, 16383, 65535)
_SLACK = 1.002  # 12 bits scaled in floats may end at 4095.3
_HOUNSFIELD = (-1024, 3071)
"""Values of a CT: 12 bits from air to bone."""


def joined(values: Iterable[Values]) -> Values | None:
    """The values of several images as if they were one; None if there are none."""
    every = list(values)
    if not every:
        return None
    return Values(
        min(one.low for one in every),
        max(one.high for one in every),
        all(one.whole for one in every),
        sum(one.outside for one in every) / len(every),
    )


def suggested_range(values: Values) -> str:
    """A range in which the values fit, as `--value-range` takes it: "0,4095" if the highest is 4080."""
    low, high = values.low, values.high
    if low < 0:
        if _HOUNSFIELD[0] <= low <= _HOUNSFIELD[0] / 2 and high <= _HOUNSFIELD[1]:
            return "{},{}".format(*_HOUNSFIELD)
        if not values.whole:
            return f"-{_rounded_up(-low)},{_rounded_up(high)}"
        half = 2 ** math.ceil(math.log2(max(-low, high + 1)))
        return f"{-half},{half - 1}"
    return f"0,{_full(high) if values.whole else _of_floats(high)}"


def _full(high: float) -> int:
    """The highest integer of 8, 10, 12, 14, 16 or more bits, the fewest that can hold `high`."""
    bits = max(8, math.ceil(math.log2(high + 1)))
    return int(2 ** (bits + bits % 2 if bits < 16 else bits) - 1)


def _of_floats(high: float) -> str:
    usual = next((top for top in _OF_FLOATS if top / 2 <= high <= top * _SLACK), None)
    return _rounded_up(high) if usual is None else str(usual)


def _rounded_up(value: float) -> str:
    """A positive number, rounded up to two digits; 1 for zero and below."""
    if value <= 0:
        return "1"
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{math.ceil(round(value / unit, 6)) * unit:.2g}" if unit < 1 else f"{math.ceil(value / unit) * int(unit)}"


def measured(files: Sequence[ImageFile], rules: PixelRules) -> Values | None:
    """The values of those images among the first few that need a range; None if none does."""
    found = []
    for file in files[:_MEASURED]:
        try:
            decode_and_measure(read_content(file), file, rules)
        except UnreadableImage as unreadable:
            if unreadable.values is not None:
                found.append(unreadable.values)
    return joined(found)


def shown(value: float) -> str:
    """A value for the user: 4080, 0.98."""
    return f"{value:.4g}" if value != int(value) else str(int(value))
