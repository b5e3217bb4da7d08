"""Differences between variants: one row per comparison, with the interval that decides it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from svae.figures.frame import TITLE, WIDTH, bars, framed
from svae.figures.style import blank

ROW = 60  # height of a row whose label has one line, in pixels
ONE_LINE = 44  # letters of the longest such label
LONG = 20  # rows; with more, differences are labelled at the top, too
SEEDS_BELOW = 0.27  # rows between a bar and the points of its seeds

BAR: dict[str, Any] = {"color": "black", "markersize": 5, "linewidth": 1.2}
OPEN: dict[str, Any] = {**BAR, "markerfacecolor": "white"}
SEED: dict[str, Any] = {"marker": ".", "markersize": 4, "color": "0.45", "linestyle": "none"}


@dataclass(frozen=True)
class Difference:
    """How much higher a measure is for the first variant than for the second."""

    first: str
    second: str
    mean: float | None
    """Over images and seeds; None if a value is not finite."""
    interval: tuple[float, float] | None
    """The ends of the bar: the interval that decides or, for one seed, mean +- standard error over
    images. None if there is no mean."""
    by_seed: Sequence[float]
    """The mean over images for each seed."""
    established: bool


def paired_differences(differences: Sequence[Difference], measure: str, title: str) -> Figure:
    """Draw one row per comparison: a dot, filled if the difference is established, and its bar.

    measure: what the differences are of, with its unit. With several seeds, small points below the
    bar show the differences of the single seeds.
    """
    if not differences:
        figure = blank(WIDTH, 4 * TITLE)
        figure.suptitle(title, fontsize=11)
        words = "There is nothing to compare."
        figure.text(0.5, 0.35, words, fontsize=10, ha="center", va="center")
        return figure
    labels = [f"{each.first} minus {each.second}" for each in differences]
    rows = 1 if max(map(len, labels)) <= ONE_LINE else 1.5
    if rows > 1:
        labels = [f"{each.first}\nminus {each.second}" for each in differences]
    several = max(len(each.by_seed) for each in differences) > 1
    keys = _keys(differences) if several else _keys_of_one_seed()
    figure, axes = framed(keys, title, round(ROW * rows * (len(differences) + 0.5)))
    axes.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    for place, each in enumerate(differences):
        if place % 2:
            axes.axhspan(place - 0.5, place + 0.5, color="0.95", linewidth=0, zorder=0)
        if each.mean is None or each.interval is None:
            style: dict[str, Any] = {"fontsize": 8, "ha": "center", "va": "center"}
            across = axes.get_yaxis_transform()
            axes.text(0.5, place, "a value is not finite", transform=across, **style)
            continue
        low, high = each.interval
        lengths = np.array([[each.mean - low], [high - each.mean]])
        bars(axes, each.mean, place, xerr=lengths, **(BAR if each.established else OPEN))
        if several:
            axes.plot(each.by_seed, np.full(len(each.by_seed), place + SEEDS_BELOW), **SEED)
    axes.set_yticks(range(len(differences)), labels, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(differences) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)))
    if len(differences) > LONG:
        axes.tick_params(axis="x", top=True, labeltop=True)
    axes.set_xlabel(f"difference of {measure}", fontsize=9)
    return figure


def _keys(differences: Sequence[Difference]) -> list[Line2D]:
    """The entries of the legend for several seeds: of the signs that are used."""
    used = {each.established for each in differences}
    marks = {"established (interval excludes 0)": BAR, "not established": OPEN}
    keys = [
        Line2D([], [], marker="o", label=label, **{**style, "linestyle": "none"})
        for label, style in marks.items()
        if (style is BAR) in used
    ]
    keys.append(Line2D([], [], label="interval that decides (95 %, Holm)", **BAR))
    return [*keys, Line2D([], [], label="each seed", **SEED)]


def _keys_of_one_seed() -> list[Line2D]:
    label = "mean +- one standard error over test images; one seed establishes nothing"
    return [Line2D([], [], marker="o", label=label, **OPEN)]
