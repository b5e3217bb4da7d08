"""Scores against the KL weight, next to linear VAEs and sanity rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, blended_transform_factory

from svae.figures.frame import HOLLOW, bars, framed, logarithmic
from svae.figures.style import sign, text_width

ERROR = "mean +- standard error over test images"
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


@dataclass(frozen=True)
class Scored:
    """One run: its KL weight w, its score and that of its linear VAE, in nats per image."""

    weight: float
    log_likelihood: float
    standard_error: float
    """Over test images."""
    linear_log_likelihood: float


def score_against_kl_weight(
    runs: Mapping[str, Sequence[Scored]], rows: Mapping[str, float], title: str
) -> Figure:
    """Draw scores against w.

    runs: variant -> one per seed. rows: name of a sanity row -> its score, in nats per image.
    """
    low, high = _scores(runs)
    far = SCALE * (high - low)
    kept = [score for score in rows.values() if low - far <= score <= high + far]
    low, high = min([low, *kept]), max([high, *kept])
    low, high = low - 0.08 * (high - low), high + 0.08 * (high - low)
    names = {_row_label(name, score, low, high): score for name, score in rows.items()}
    widest = max((text_width(name, 8) for name in names), default=0)
    keys = _score_keys(runs, bool(rows))
    figure, axes = framed(keys, title, right=LEADER + widest + 20 if rows else 0)
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
        bars(axes, weights[name], score, yerr=error, transform=moved, **style)
    axes.set_ylim(low, high)
    # Variants with equal w need room next to each other.
    logarithmic(axes, axes.xaxis, points[0][0], points[-1][0], margin=0.15)
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


def _shift(figure: Figure, points: float) -> ScaledTranslation:
    """A shift to the right on the page, which leaves the data unchanged."""
    return ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)
