"""Figures: small plots as inline SVG. They use the page's colours, so they follow its light and dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labeldep_cli.files import plain_name
from labeldep_cli.text import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RUNS = ("one", "two", "three", "four", "five", "six")
"""The page's colours for the runs, in order. Each run also has a dash pattern and a marker, so colour is not needed."""

_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)), (0, (8, 2)), (0, (1.5, 3)))
_SIGNS = ("o", "s", "^", "D", "v", "P")
_INK, _QUIET, _LINE = "#010100", "#010101", "#010102"
_COLOURS = [f"#0202{k:02x}" for k in range(len(RUNS))]
_VARIABLES = {_INK: "ink", _QUIET: "quiet", _LINE: "line", **dict(zip(_COLOURS, RUNS, strict=True))}
"""Placeholder colours that no plot would use by itself, and the CSS variables that replace them."""

_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it takes the page's font, and can be searched and read aloud
    "svg.hashsalt": "labeldep",  # the same bytes each time
    "font.size": 11,
    "font.family": "sans-serif",
    "axes.edgecolor": _QUIET,
    "axes.labelcolor": _INK,
    "axes.titlecolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "text.color": _INK,
}
_WIDTH, _HEIGHT = 5.0, 3.6  # inches of 72 units: the width of a phone's page, so that 11 units are shown as 11 pixels

_Numbers = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One run in a plot.

    Attributes:
        run: its number, from 0; it decides the colour, dash pattern and marker.
        letter: its name in the legend.
        x, y: points [T] of the line.
        marks: (x, y, filled) of single points, on the line or off it.
        thin: whether it is a run's second line, for comparison with the first; the legend leaves it out.
    """

    run: int
    letter: str
    x: _Numbers
    y: _Numbers
    marks: Sequence[tuple[float, float, bool]] = ()
    thin: bool = False


def figure(name: str, title: str, description: str, x: str, y: str, lines: Sequence[Line]) -> Markup:
    """Draw a plot.

    Args:
        name: identifies the figure within its page.
        title: the text above the figure.
        description: what the figure shows, for screen readers.
        x, y: the labels of the axes; an empty string leaves the label out.
        lines: at least one.

    Returns:
        An `<svg>` element that fills the width of its container.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    title, description, x, y = map(visible, (title, description, x, y))
    with mpl.rc_context(_STYLE):
        sheet = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained", facecolor="none")
        axes = sheet.add_subplot(facecolor="none")
        axes.set_title(title, fontsize=12, loc="left", parse_math=False)
        axes.set_xlabel(x, parse_math=False)
        if y:
            axes.set_ylabel(y, parse_math=False)
        for line in lines:
            _draw(axes, line)
        named = sum(not line.thin for line in lines)
        if named > 1:
            axes.legend(frameon=False, handlelength=3.2, ncols=named, loc="lower right", bbox_to_anchor=(1, 1))
        stream = io.StringIO()
        sheet.savefig(stream, format="svg", metadata={"Date": None})
    return Markup(_inline(stream.getvalue(), name, f"{title}. {description}"))  # matplotlib escapes its text


def _draw(axes: Axes, line: Line) -> None:
    colour, sign = _COLOURS[line.run], _SIGNS[line.run]
    label = f"_{line.letter}" if line.thin else line.letter  # matplotlib's legend leaves out what begins with _
    width = 0.9 if line.thin else 2
    axes.plot(line.x, line.y, color=colour, linestyle=_DASHES[line.run], linewidth=width, label=label)
    for x, y, filled in line.marks:
        axes.plot([x], [y], sign, color=colour, markersize=8, markerfacecolor=colour if filled else "none", mew=1.8)


def _inline(svg: str, name: str, description: str) -> str:
    """Cut out the `<svg>` element, use the page's colours, and prefix its ids so that they are unique on the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    (box,) = re.findall(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', svg)
    svg = f'<svg {box} role="img" aria-label="{escape(description)}">{svg[svg.index(">") + 1 :]}'
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{plain_name(name)}-", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("xlink:href", "href")
