"""Training curves by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from svae.figures.style import LETTER, RING, blank, sign

TITLE = 70  # above the panels, in pixels
LINE = 42  # from one line of text to the next, in pixels
CURVES_WIDTH, PANEL_HEIGHT, KEY = 2000, 520, 130  # in pixels; KEY: a sign in the legend
DASHES = {"training": (0, (3, 1.5)), "validation": "solid"}
MOST_MARKED = 12  # epochs; of more, only some have a marker
FACTOR = 20  # of largest to smallest value, above which a wide axis is logarithmic
# The first epoch is cut off where it would take more than this part of the later epochs' range.
FIRST = 0.25


@dataclass
class Panel:
    """One set of axes of the training curves.

    curves: variant -> training, validation or both -> one value per epoch, from the first.
    wide: values are positive and may span orders of magnitude. from_zero: the axis includes 0;
    other axes leave out values of the first epoch with which the later ones could hardly be
    distinguished.
    """

    curves: dict[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    wide: bool = False
    from_zero: bool = False


def training_curves(panels: Mapping[str, Panel], chosen: Mapping[str, int], title: str) -> Figure:
    """Draw curves by epoch, two panels per row; if their number is odd, the first has its own row.

    panels: label of the axis, with unit -> panel. At least one panel has all variants, in the order
    of the legend. A variant has the same colour and marker in all panels; training is dashed with
    hollow markers, validation solid. chosen: variant -> epoch of the weights used, if that is not
    the last one; it is marked with a ring on the variant's validation curve, in the first panel
    that has one.
    """
    most = max((panel.curves for panel in panels.values()), key=len)
    variants = list(most)
    keys = _keys(variants, ringed=bool(chosen))
    letters = max(len(str(key.get_label())) for key in keys)
    columns = min(len(keys), max(1, CURVES_WIDTH // (LETTER * letters + KEY)))
    rows = -(-len(panels) // 2)
    height = 2 * TITLE + rows * PANEL_HEIGHT + -(-len(keys) // columns) * LINE
    figure = blank(CURVES_WIDTH, height)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, fontsize=9)
    grid = figure.add_gridspec(rows, 2)
    odd = len(panels) % 2
    longest = max(
        len(values)
        for panel in panels.values()
        for curves in panel.curves.values()
        for values in curves.values()
    )
    left = dict(chosen)
    for place, (axis, panel) in enumerate(panels.items(), odd):
        row, column = divmod(place, 2)
        axes = figure.add_subplot(grid[0, :] if odd and row == 0 else grid[row, column])
        _draw_panel(axes, axis, panel, variants)
        axes.set_xlim(0.5, longest + 0.5)
        for variant in [variant for variant in left if variant in panel.curves]:
            epoch = left.pop(variant)
            ring = {**RING, "color": sign(variants, variant)["color"]}
            axes.plot(epoch, panel.curves[variant]["validation"][epoch - 1], **ring)
    return figure


def _kind(kind: str) -> dict[str, Any]:
    face = {"markerfacecolor": "white"} if kind == "training" else {}
    return {"linestyle": DASHES[kind], **face}


def _keys(variants: Sequence[str], ringed: bool) -> list[Line2D]:
    keys = [Line2D([], [], label=variant, **sign(variants, variant)) for variant in variants]
    grey: dict[str, Any] = {"color": "grey", "marker": "o", "markersize": 4.5, "linewidth": 1.2}
    keys += [Line2D([], [], label=kind, **grey, **_kind(kind)) for kind in DASHES]
    return [*keys, Line2D([], [], label="weights used", **RING)] if ringed else keys


def _draw_panel(axes: Axes, label: str, panel: Panel, variants: Sequence[str]) -> None:
    everything: list[float] = []
    abscissa = "epoch"
    for variant, curves in panel.curves.items():
        for kind, values in curves.items():
            every = -(-len(values) // MOST_MARKED)
            start = variants.index(variant) % every  # so that markers rarely overlap
            axes.plot(
                np.arange(1, len(values) + 1),
                values,
                markevery=(start, every),
                clip_on=False,  # so that a marker on the edge is complete
                **sign(variants, variant),
                **_kind(kind),
            )
            everything += values
    axes.xaxis.set_major_locator(_whole_numbers())
    if panel.wide and 0 < FACTOR * min(everything) < max(everything):
        axes.set_yscale("log")
        decades = np.log10(max(everything) / min(everything))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 3 else (1,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    elif panel.from_zero:
        top = max(everything) or 1
        axes.set_ylim(-0.05 * top, 1.08 * top)
    elif limits := _without_first(panel):
        axes.set_ylim(*limits)
        for curve in axes.lines:
            curve.set_clip_on(True)
        abscissa = "epoch; values of the first are cut off"
    if all(isinstance(value, int) for value in everything):
        axes.yaxis.set_major_locator(_whole_numbers())
    axes.set_xlabel(abscissa, fontsize=9)
    axes.set_ylabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _without_first(panel: Panel) -> tuple[float, float] | None:
    """Limits of the axis from the epochs after the first; None if that one needs little more room,
    or if a curve has no other."""
    curves = [values for curves in panel.curves.values() for values in curves.values()]
    later = [value for values in curves for value in values[1:]]
    if min(map(len, curves)) == 1:
        return None
    low, high = min(later), max(later)
    first = [values[0] for values in curves]
    if low <= min(first) and max(first) - high <= FIRST * (high - low):
        return None
    margin = 0.08 * (high - low or abs(high) or 1.0)
    return low - margin, high + margin


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10))
