"""Charts of scores and latents: choice of sigma, differences, score against KL weight, KL by map.

All take numbers and write a PNG. Variants have the colour, marker and dashes of
svae.figures.style.line; with several seeds, only the run of the first seed has markers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from svae.figures.style import RING, blank, line, save, sign, text_width

WIDTH = 2000  # of a chart, in pixels
TITLE, AXIS = 70, 130  # space above the axes, and below them without the legend, in pixels
LINE = 42  # from one line of text to the next, in pixels
KEY = 190  # a sign in the legend and the space next to it, in pixels
HEIGHT = 900  # default height of the axes, in pixels
MOST_MARKED = 12  # points of a curve; of more, only some have a marker
FURTHER: dict[str, Any] = {"linewidth": 0.6, "marker": "none"}  # runs of further seeds
HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "linestyle": "none", "markersize": 3.5}

ERROR = "mean +- standard error over test images"
EDGE = "at the grid's edge"
# How far below the lowest maximum the axis extends: in distances between the maxima, and in heights
# of a peak above its higher neighbour.
SPREADS, PEAKS = 0.5, 1.5

ROW = 60  # height of a pair whose label has one line, in pixels
ONE_LINE = 44  # letters of the longest such label
LONG = 20  # pairs; with more, differences are labelled at the top, too

LINEAR: dict[str, Any] = {
    "color": "0.35",
    "marker": "d",
    "markersize": 5,
    "markerfacecolor": "white",
    "linestyle": (0, (4, 2)),
    "linewidth": 1,
}
ROWS: dict[str, Any] = {"color": "0.6", "linewidth": 0.8}
UP, DOWN = "\u2191", "\u2193"
OFFSET = 9  # points between variants of one w
APART = 32  # between two labels in the margin, in pixels
LEADER = 60  # the width of the leaders to the labels in the margin, in pixels
SCALE = 1.5  # times the span of the scores; sanity rows farther away are off the scale

FLOOR = 1e-3  # nats; maps with a smaller KL are drawn there
MOST_LINEAR = 100  # latent maps; for more, the axis of ranks is logarithmic


@dataclass(frozen=True)
class SigmaChoice:
    """How one run's sigma was chosen."""

    sigmas: Sequence[float]
    """The grid in ascending order, in pixel units of [-1, 1]."""
    log_likelihood: Sequence[float]
    """For each sigma of the grid, mean over the images that choose sigma, in nats per image."""
    chosen: float
    """The sigma used; lies between sigmas of the grid if it was refined by a search."""
    at_edge: bool

    @property
    def height(self) -> float:
        """Height of the drawn curve at the chosen sigma."""
        return float(np.interp(np.log(self.chosen), np.log(self.sigmas), self.log_likelihood))


@dataclass(frozen=True)
class Scored:
    """One run: its KL weight w, its score and that of its linear VAE, in nats per image."""

    weight: float
    log_likelihood: float
    standard_error: float
    """Over test images."""
    linear_log_likelihood: float


class Pair(Protocol):
    """How much higher the first variant scores than the second; see paired_differences.Pair."""

    @property
    def first(self) -> str: ...

    @property
    def second(self) -> str: ...

    @property
    def difference(self) -> float: ...

    @property
    def standard_error(self) -> float: ...

    @property
    def spread_over_seeds(self) -> float | None: ...


def sigma_curves(
    choices: Mapping[str, Sequence[SigmaChoice]], title: str, target: Path | str
) -> None:
    """Draw the score against sigma, with a ring at the chosen one. choices: variant -> per seed."""
    save(_sigma_curves(choices, title), target)


def paired_differences(pairs: Sequence[Pair], title: str, target: Path | str) -> None:
    """Draw one row per pair: the difference, its standard error and its spread over seeds."""
    save(_paired_differences(pairs, title), target)


def score_against_kl_weight(
    runs: Mapping[str, Sequence[Scored]], rows: Mapping[str, float], title: str, target: Path | str
) -> None:
    """Draw scores against w.

    runs: variant -> one per seed. rows: name of a sanity row -> its score, in nats per image.
    """
    save(_score_against_kl_weight(runs, rows, title), target)


def kl_per_map(kl: Mapping[str, Sequence[Sequence[float]]], title: str, target: Path | str) -> None:
    """Draw KL by rank. kl: variant -> for each seed, the KL of every latent map in nats."""
    save(_kl_per_map(kl, title), target)


def _sigma_curves(choices: Mapping[str, Sequence[SigmaChoice]], title: str) -> Figure:
    variants = list(choices)
    keys = []
    for variant, seeds in choices.items():
        edge = any(choice.at_edge for choice in seeds)
        label = f"{variant} ({EDGE})" if edge else variant
        keys.append(Line2D([], [], label=label, **line(variants, variant)))
    keys += _further(choices)
    between = any(
        choice.chosen not in choice.sigmas for seeds in choices.values() for choice in seeds
    )
    label = "chosen sigma, refined within the grid" if between else "chosen sigma"
    keys.append(Line2D([], [], label=label, **RING))
    figure, axes = _framed(keys, title)
    for variant, seeds in choices.items():
        for index, choice in enumerate(seeds):
            style = _style(variants, variant, index, len(choice.sigmas))
            axes.plot(choice.sigmas, choice.log_likelihood, **style)
            ring = {**RING, "color": style["color"], "markersize": 6 if index else 11}
            axes.plot(choice.chosen, choice.height, **ring)
    everything = [choice for seeds in choices.values() for choice in seeds]
    low, high, cut = _heights(everything)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.06 * (high - low))
    sigmas = [sigma for choice in everything for sigma in choice.sigmas]
    _logarithmic(axes, axes.xaxis, min(sigmas), max(sigmas))
    note = "; lower values are cut off" if cut else ""
    axes.set_xlabel(f"sigma (pixels on [-1, 1]){note}", fontsize=9)
    axes.set_ylabel(
        "mean log-likelihood of the images\nthat choose sigma (nats per image)", fontsize=9
    )
    return figure


def _heights(choices: Sequence[SigmaChoice]) -> tuple[float, float, bool]:
    """Lowest and highest value to show, and whether there are lower ones.

    Sigmas that are far too small score so low that, with them on the axis, the maxima could not be
    distinguished.
    """
    tops = [max(choice.log_likelihood) for choice in choices]
    high, lowest_top = max(tops), min(tops)
    peak = max(_peak(choice.log_likelihood) for choice in choices)
    low = lowest_top - max(SPREADS * (high - lowest_top), PEAKS * peak)
    low = min([low, *(choice.height for choice in choices)])
    lowest = min(min(choice.log_likelihood) for choice in choices)
    if lowest == high:  # one sigma
        return high - 1, high + 1, False
    return (low, high, True) if lowest < low < high else (lowest, high, False)


def _peak(values: Sequence[float]) -> float:
    """How far the largest value is above its larger neighbour; 0 for a single value."""
    best = int(np.argmax(values))
    neighbours = [*values[max(0, best - 1) : best], *values[best + 1 : best + 2]]
    return values[best] - max(neighbours, default=values[best])


def _paired_differences(pairs: Sequence[Pair], title: str) -> Figure:
    if not pairs:
        figure = blank(WIDTH, 4 * TITLE)
        figure.suptitle(title, fontsize=11)
        words = "There is only one variant, so there is no pair to compare."
        figure.text(0.5, 0.35, words, fontsize=10, ha="center", va="center")
        return figure
    labels = [f"{pair.first} minus {pair.second}" for pair in pairs]
    rows = 1 if max(map(len, labels)) <= ONE_LINE else 1.5
    if rows > 1:
        labels = [f"{pair.first}\nminus {pair.second}" for pair in pairs]
    bar: dict[str, Any] = {"color": "black", "linewidth": 1.2}
    spread: dict[str, Any] = {"color": "0.72", "linewidth": 6, "solid_capstyle": "butt"}
    keys = [Line2D([], [], marker="o", markersize=3, label=ERROR, **bar)]
    if several := pairs[0].spread_over_seeds is not None:
        keys.append(Line2D([], [], label="+- standard deviation over seeds", **spread))
    figure, axes = _framed(keys, title, round(ROW * rows * (len(pairs) + 0.5)))
    places = np.arange(len(pairs))
    values = np.array([pair.difference for pair in pairs])
    if several:
        widths = np.array([pair.spread_over_seeds for pair in pairs])
        axes.hlines(places, values - widths, values + widths, color="0.72", linewidth=6)
    axes.axvline(0, color="0.4", linewidth=0.8, zorder=1)
    errors = [pair.standard_error for pair in pairs]
    _bars(axes, values, places, xerr=errors, color="black", markersize=3)
    firsts = list(dict.fromkeys(pair.first for pair in pairs))
    for place, pair in enumerate(pairs):
        if (
            firsts.index(pair.first) % 2
        ):  # shade every second group of pairs with the same first variant
            axes.axhspan(place - 0.5, place + 0.5, color="0.95", linewidth=0, zorder=0)
    axes.set_yticks(places, labels, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)))
    if len(pairs) > LONG:
        axes.tick_params(axis="x", top=True, labeltop=True)
    axes.set_xlabel("difference of log-likelihood (nats per image)", fontsize=9)
    return figure


def _score_against_kl_weight(
    runs: Mapping[str, Sequence[Scored]], rows: Mapping[str, float], title: str
) -> Figure:
    low, high = _scores(runs)
    far = SCALE * (high - low)
    kept = [score for score in rows.values() if low - far <= score <= high + far]
    low, high = min([low, *kept]), max([high, *kept])
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    names = {_row_label(name, score, low, high): score for name, score in rows.items()}
    widest = max((text_width(name, 8) for name in names), default=0)
    keys = _score_keys(runs, bool(rows))
    figure, axes = _framed(keys, title, right=LEADER + widest + 20 if rows else 0)
    points = sorted(
        (run.weight, run.linear_log_likelihood) for seeds in runs.values() for run in seeds
    )
    axes.plot(*zip(*points, strict=True), **LINEAR, zorder=1.5)
    weights = {name: float(np.mean([run.weight for run in seeds])) for name, seeds in runs.items()}
    shared = False
    for name, seeds in runs.items():
        same = [other for other in runs if np.isclose(weights[other], weights[name], rtol=1e-3)]
        shared |= len(same) > 1
        place = OFFSET * (same.index(name) - (len(same) - 1) / 2)
        style = sign(list(runs), name)
        if len(seeds) > 1:
            moved = axes.transData + _shift(figure, place + OFFSET / 2)
            each = [run.weight for run in seeds], [run.log_likelihood for run in seeds]
            axes.plot(*each, transform=moved, **{**style, **HOLLOW})
        score, error = _bar(seeds)
        moved = axes.transData + _shift(figure, place)
        _bars(axes, weights[name], score, yerr=error, transform=moved, **style)
    axes.set_ylim(low, high)
    # Variants with equal w need room next to each other.
    _logarithmic(axes, axes.xaxis, points[0][0], points[-1][0], margin=0.15)
    note = "; variants with equal w are shown side by side" if shared else ""
    axes.set_xlabel(f"KL weight w of SSE + w KL, or its equivalent for an ELBO{note}", fontsize=9)
    axes.set_ylabel("Parzen log-likelihood (nats per image)", fontsize=9)
    _margin(figure, axes, names)
    return figure


def _score_keys(runs: Mapping[str, Sequence[Scored]], rows: bool) -> list[Line2D]:
    """The entries of the legend; rows: whether there are sanity rows."""
    variants, number = list(runs), max(map(len, runs.values()))
    error = f"mean of {number} seeds +- standard deviation over them" if number > 1 else ERROR
    grey: dict[str, Any] = {"color": "grey", "linestyle": "none"}
    keys = [
        Line2D([], [], label=name, **{**sign(variants, name), "linestyle": "none"})
        for name in variants
    ]
    keys.append(Line2D([], [], marker="|", markersize=9, label=error, **grey))
    if number > 1:
        keys.append(Line2D([], [], marker="o", label="each seed", **{**grey, **HOLLOW}))
    keys.append(Line2D([], [], label="linear VAE (probabilistic PCA)", **LINEAR))
    return (
        [*keys, Line2D([], [], label="sanity rows, named at the right", **ROWS)] if rows else keys
    )


def _bar(seeds: Sequence[Scored]) -> tuple[float, float]:
    """Mean score and length of its error bar: over seeds or, for one seed, over test images."""
    scores = [run.log_likelihood for run in seeds]
    error = float(np.std(scores, ddof=1)) if len(seeds) > 1 else seeds[0].standard_error
    return float(np.mean(scores)), error


def _scores(runs: Mapping[str, Sequence[Scored]]) -> tuple[float, float]:
    """Lowest and highest value drawn for the runs, at least 1 nat apart."""
    values = []
    for seeds in runs.values():
        score, error = _bar(seeds)
        values += [score - error, score + error]
        values += [run.log_likelihood for run in seeds]
        values += [run.linear_log_likelihood for run in seeds]
    low, high = min(values), max(values)
    return (low, high) if high - low >= 1 else ((low + high - 1) / 2, (low + high + 1) / 2)


def _row_label(name: str, score: float, low: float, high: float) -> str:
    """The name; if the score is off the scale, also the score and an arrow towards it."""
    if low <= score <= high:
        return name
    return f"{name}: {score:,.0f} {UP if score > high else DOWN}"


def _margin(figure: Figure, axes: Axes, rows: Mapping[str, float]) -> None:
    """Draw lines at the sanity rows on the scale, and the names of all at the right."""
    figure.draw_without_rendering()  # computes the layout
    figure.set_layout_engine("none")
    low, high = axes.get_ylim()
    order = sorted(rows, key=lambda name: rows[name])
    wanted = [float(np.clip((rows[name] - low) / (high - low), 0, 1)) for name in order]
    places = spread(wanted, APART / axes.bbox.height, 0, 1)
    across = blended_transform_factory(axes.transAxes, axes.transData)
    leader = LEADER / axes.bbox.width
    for name, place in zip(order, places, strict=True):
        if low <= rows[name] <= high:
            axes.axhline(rows[name], **ROWS, zorder=1)
            ends = [1, 1 + 0.8 * leader], [rows[name], low + place * (high - low)]
            axes.plot(*ends, transform=across, clip_on=False, **ROWS)
        axes.text(1 + leader, place, name, transform=axes.transAxes, fontsize=8, va="center")


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return ascending places near `wanted`, at least `gap` apart, in [low, high] if there is room.

    wanted: ascending.
    """
    places: list[float] = []
    for place in wanted:
        places.append(max(place, low, places[-1] + gap if places else low))
    limit = high
    for index in reversed(range(len(places))):
        places[index] = min(places[index], limit)
        limit = places[index] - gap
    return places


def _kl_per_map(kl: Mapping[str, Sequence[Sequence[float]]], title: str) -> Figure:
    variants = list(kl)
    keys = [Line2D([], [], label=name, **line(variants, name)) for name in variants]
    figure, axes = _framed([*keys, *_further(kl)], title)
    low = min(min(seed) for seeds in kl.values() for seed in seeds)
    maps = max(len(seed) for seeds in kl.values() for seed in seeds)
    ranked = maps > MOST_LINEAR
    top = FLOOR
    for name, seeds in kl.items():
        for index, values in enumerate(seeds):
            heights = np.maximum(np.sort(values)[::-1], FLOOR)
            top = max(top, heights[0])
            style = _style(variants, name, index, len(values))
            if ranked and not index:
                style["markevery"] = _even_ranks(len(values), variants.index(name) / len(variants))
            axes.plot(np.arange(1, len(values) + 1), heights, **style)
    bottom = max(low, FLOOR)
    _logarithmic(axes, axes.yaxis, bottom, max(top, 10 * bottom), 0.06)
    if ranked:
        _logarithmic(axes, axes.xaxis, 1, maps)
    else:
        axes.set_xlim(0.5, maps + 0.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
    axes.set_xlabel("rank of the latent map by its KL", fontsize=9)
    note = f"\nvalues below {FLOOR:g} are drawn at {FLOOR:g}" if low < FLOOR else ""
    axes.set_ylabel(f"KL of the latent map (nats per image){note}", fontsize=9)
    return figure


def _even_ranks(count: int, start: float) -> list[int]:
    """Indices of ranks at equal distances on a logarithmic axis.

    start: offset in units of this distance, from 0 to 1, so that markers of different curves rarely
    overlap.
    """
    ranks = count ** ((np.arange(MOST_MARKED) + start) / MOST_MARKED)
    return sorted({int(rank) - 1 for rank in ranks})


def _framed(
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


def _further(runs: Mapping[str, Sequence[Any]]) -> list[Line2D]:
    """The legend's entry for further seeds, if there are any."""
    if max(map(len, runs.values())) == 1:
        return []
    return [Line2D([], [], color="grey", label="further seeds", **FURTHER)]


def _style(variants: Sequence[str], variant: str, seed: int, count: int) -> dict[str, Any]:
    """Style of a curve of `count` values; seed: index of the run's seed."""
    if seed:
        return {**line(variants, variant), **FURTHER}
    every = -(-count // MOST_MARKED)
    start = variants.index(variant) % every  # so that markers rarely overlap
    return {**line(variants, variant), "markevery": (start, every)}


def _bars(axes: Axes, x: Any, y: Any, **style: Any) -> ErrorbarContainer:
    """Draw points with error bars."""
    usual = {"marker": "o", "markersize": 4.5, "linewidth": 1.2}
    style = {**usual, **style, "linestyle": "none"}
    return axes.errorbar(x, y, capsize=3, elinewidth=style["linewidth"], **style)


def _shift(figure: Figure, points: float) -> ScaledTranslation:
    """A shift to the right on the page, which leaves the data unchanged."""
    return ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)


def _logarithmic(axes: Axes, axis: Axis, low: float, high: float, margin: float = 0.04) -> None:
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
