"""What all charts share: one set of axes with a legend below, styles of runs, error bars, scales.

Variants have the colour, marker and dashes of svae.figures.style.line; with several seeds, only the
run of the first seed has markers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from svae.figures.style import blank, line, text_width

WIDTH = 2000  # of a chart, in pixels
TITLE, AXIS = 70, 130  # space above the axes, and below them without the legend, in pixels
LINE = 42  # from one line of text to the next, in pixels
KEY = 190  # a sign in the legend and the space next to it, in pixels
HEIGHT = 900  # default height of the axes, in pixels
MOST_MARKED = 12  # points of a curve; of more, only some have a marker
FURTHER: dict[str, Any] = {"linewidth": 0.6, "marker": "none"}  # runs of further seeds
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "none", "markersize": 3.5}


def framed(
    keys: Sequence[Line2D], title: str, height: int = HEIGHT, right: int = 0
) -> tuple[Figure, Axes]:
    """A figure with one set of axes of about this height, and the legend below.

    right: the margin at the right of the axes. Sizes in pixels.
    """
    widest = max(text_width(str(key.get_label()), 9) for key in keys)
    columns = min(len(keys), max(1, WIDTH // (widest + KEY)))
    figure = blank(WIDTH, TITLE + height + AXIS + -(-len(keys) // columns) * LINE)
    figure.set_layout_engine("constrained", rect=(0, 0, 1 - right / WIDTH, 1))
    figure.suptitle(title, fontsize=11)
    figure.legend(
        handles=keys, loc="outside lower center", ncols=columns, fontsize=9, handlelength=3
    )
    axes = figure.add_subplot()
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def further_seeds(runs: Mapping[str, Sequence[Any]]) -> list[Line2D]:
    """The legend's entry for further seeds, if there are any."""
    if max(map(len, runs.values())) == 1:
        return []
    return [Line2D([], [], color="grey", label="further seeds", **FURTHER)]


def curve_style(variants: Sequence[str], variant: str, seed: int, count: int) -> dict[str, Any]:
    """Style of a curve of `count` values; seed: index of the run's seed."""
    if seed:
        return {**line(variants, variant), **FURTHER}
    every = -(-count // MOST_MARKED)
    start = variants.index(variant) % every  # so that markers rarely overlap
    return {**line(variants, variant), "markevery": (start, every)}


def bars(axes: Axes, x: Any, y: Any, **style: Any) -> ErrorbarContainer:
    """Draw points with error bars."""
    usual = {"marker": "o", "markersize": 4.5, "linewidth": 1.2}
    style = {**usual, **style, "linestyle": "none"}
    return axes.errorbar(x, y, capsize=3, elinewidth=style["linewidth"], **style)


def logarithmic(axes: Axes, axis: Axis, low: float, high: float, margin: float = 0.04) -> None:
    """Make an axis logarithmic, from `low` to `high` plus a margin, always with some labels."""
    span = max(np.log(high / low), np.log(1.5))
    limits = np.exp([np.log(low) - margin * span, np.log(high) + margin * span])
    if axis is axes.xaxis:
        axes.set_xscale("log")
        axes.set_xlim(*limits)
    else:
        axes.set_yscale("log")
        axes.set_ylim(*limits)
    decades = span / np.log(10)
    if decades < 0.8:
        axis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter("{x:g}")
