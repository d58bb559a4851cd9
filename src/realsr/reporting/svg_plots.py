"""Line plots and point plots as inline SVG, whose text takes the colour of the page."""

import html
import io
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from realsr.core.file_names import printable
from realsr.reporting.pages import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# At least 3:1 against the light and the dark background.
COLOURS = ("#2a7fc9", "#c8620c", "#2e8b57", "#9a62c7", "#c2417c", "#7d7d30")
INK, GRID = "#123456", "#654321"  # placeholders of the page's colours
SIZE = (4.8, 3.0)  # inches
MAX_POINTS = 800  # of a line
_numbers = itertools.count()


@dataclass(frozen=True)
class Line:
    """A line of a plot. x, y: (n,). band: lower and upper values, (n,) each."""

    name: str
    x: np.ndarray
    y: np.ndarray
    dashed: bool = False
    band: tuple[np.ndarray, np.ndarray] | None = None
    colour: int | None = None  # of COLOURS; None: the line's position


def plot_lines(
    title: str,
    lines: Sequence[Line],
    x_label: str,
    limit: tuple[float, str] | None = None,
    logarithmic: bool = False,
) -> Plot:
    """Return a plot of lines. limit: a vertical line at x, with its name."""
    figure, axes = _start(x_label)
    for index, line in enumerate(lines):
        colour = COLOURS[(index if line.colour is None else line.colour) % len(COLOURS)]
        choice = np.unique(np.linspace(0, len(line.x) - 1, MAX_POINTS).round().astype(int))
        style = "--" if line.dashed else "-"
        marker = "o" if len(line.x) == 1 else None
        x, y = line.x[choice], line.y[choice]
        axes.plot(x, y, style, color=colour, label=printable(line.name), marker=marker)
        if line.band is not None:
            low, high = (edge[choice] for edge in line.band)
            axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    if limit is not None:
        axes.axvline(limit[0], color=INK, linewidth=1, linestyle=":", label=printable(limit[1]))
    if logarithmic and all((line.y > 0).all() for line in lines):
        axes.set_yscale("log")
    if len(lines) > 1 or limit is not None:
        axes.legend(frameon=False, labelcolor=INK)
    ends = [f"{printable(line.name)} {line.y[0]:.4g} to {line.y[-1]:.4g}" for line in lines]
    return Plot(_render(figure, f"{title}, from left to right: {'; '.join(ends)}"), title)


def plot_intervals(
    title: str, rows: Mapping[str, tuple[float, tuple[float, float] | None]]
) -> Plot:
    """Return a plot with a row for each name: a mean as a point, and its interval or None."""
    figure, axes = _start("")
    figure.set_size_inches(SIZE[0], 0.9 + 0.34 * len(rows))
    for row, (mean, interval) in enumerate(rows.values()):
        if interval is not None:
            axes.plot(interval, (row, row), color=COLOURS[0], linewidth=2)
        axes.plot([mean], [row], "o", color=COLOURS[0])
    axes.set_yticks(range(len(rows)), [_shorten(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.locator_params(axis="x", nbins=4)
    values = [f"{printable(name)} {mean:.4g}" for name, (mean, _) in rows.items()]
    return Plot(_render(figure, f"{title}: {'; '.join(values)}"), title)


def _shorten(name: str) -> str:
    name = printable(name)
    return name if len(name) <= 28 else f"{name[:15]}…{name[-12:]}"


def _start(x_label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=11, length=0)
    axes.set_xlabel(printable(x_label), color=INK, fontsize=11)
    return figure, axes


def _render(figure: "Figure", alt: str) -> str:
    """Return a figure as an SVG element with a text alternative and ids of its own."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "realsr", "text.parse_math": False}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    number = next(_numbers)
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\1plot{number}-", svg)
    svg = svg.replace(INK, "currentColor").replace(GRID, "var(--line)")
    label = html.escape(alt, quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)
