"""Distortion against rate, and next to it the log ratio to linear VAEs, where differences show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from svae.figures.frame import AXIS, HEIGHT, KEY, LINE, TITLE, WIDTH, logarithmic
from svae.figures.style import PATTERNS, blank, sign, text_width

REACH = 1.15  # a line of slope -w spans the rates from 1 / 1.15 to 1.15 times its point's
SLOPE: dict[str, Any] = {"linewidth": 1, "alpha": 0.6}
JOINED: dict[str, Any] = {"linewidth": 0.9, "alpha": 0.7, "marker": "none"}
POINT: dict[str, Any] = {"linestyle": "none", "markersize": 4, "markeredgewidth": 0.8}
ZERO: dict[str, Any] = {"color": "0.55", "linewidth": 1}
BAND: dict[str, Any] = {"color": "0.95", "linewidth": 0}


@dataclass(frozen=True)
class Dot:
    """One run."""

    weight: float
    """w of SSE + w KL."""
    rate: float
    """KL in nats per image, above 0."""
    sse: float
    log_ratio: float
    """Natural logarithm of its SSE over that of the linear VAE with its rate."""
    standard_error: float
    """Of the log ratio, over test images."""


@dataclass(frozen=True)
class Group:
    """A family of variants, or one variant: what has one colour and marker."""

    variants: Sequence[Sequence[Dot]]
    """For each variant, its seeds."""
    mean: float | None = None
    """The mean log ratio over the common rates."""
    error: float | None = None
    """Its standard error."""


def rate_distortion(
    groups: Mapping[str, Group],
    curves: Mapping[int, tuple[Sequence[float], Sequence[float]]],
    common: tuple[float, float] | None,
    title: str,
) -> Figure:
    """Draw both panels. With several seeds, each is a point; with one, a bar in the second panel is
    its standard error over test images.

    groups: by name. curves: number of latent entries -> rates and SSE of the linear VAEs with them.
    common: the rates over which the log ratio is averaged, marked in the second panel.
    """
    dots = [dot for group in groups.values() for each in group.variants for dot in each]
    if not dots:
        figure = blank(WIDTH, 4 * TITLE)
        figure.suptitle(title, fontsize=11)
        words = "No run has a finite SSE and a rate above 0."
        figure.text(0.5, 0.35, words, fontsize=10, ha="center", va="center")
        return figure
    keys = _keys(groups, list(curves), common)
    widest = max(text_width(str(key.get_label()), 9) for key in keys)
    columns = min(len(keys), max(1, WIDTH // (widest + KEY)))
    figure = blank(WIDTH, TITLE + HEIGHT + AXIS + -(-len(keys) // columns) * LINE)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=11)
    figure.legend(
        handles=keys, loc="outside lower center", ncols=columns, fontsize=9, handlelength=3
    )
    left, right = figure.subplots(1, 2)
    _distortions(left, groups, curves)
    _log_ratios(right, groups, common)
    rates = [dot.rate for dot in dots]
    for axes in (left, right):
        logarithmic(axes, axes.xaxis, min(rates), max(rates), margin=0.08)
        axes.set_xlabel("rate: KL (nats per image)", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    distortions = [dot.sse for dot in dots]
    logarithmic(left, left.yaxis, min(distortions), max(distortions), margin=0.08)
    left.set_ylabel("distortion: SSE per image (pixels on [-1, 1])", fontsize=9)
    right.set_ylabel("ln (SSE / SSE of the linear VAE at the same rate)", fontsize=9)
    right.yaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)))
    return figure


def _distortions(
    axes: Axes,
    groups: Mapping[str, Group],
    curves: Mapping[int, tuple[Sequence[float], Sequence[float]]],
) -> None:
    for (rates, sse), style in zip(curves.values(), _greys(len(curves)), strict=True):
        axes.plot(rates, sse, zorder=1.5, **style)
    for name, group in groups.items():
        style = sign(list(groups), name)
        for seeds in filter(None, group.variants):
            w, rate, sse = np.mean([(dot.weight, dot.rate, dot.sse) for dot in seeds], axis=0)
            along = np.geomspace(rate / REACH, rate * REACH, 20)
            tangent = sse - w * (along - rate)
            shown = tangent > 0  # w may be far from the slope of a run that has not converged
            axes.plot(along[shown], tangent[shown], color=style["color"], **SLOPE)
            _seeds(axes, style, seeds, [dot.sse for dot in seeds])


def _log_ratios(
    axes: Axes, groups: Mapping[str, Group], common: tuple[float, float] | None
) -> None:
    if common is not None:
        axes.axvspan(*common, zorder=0, **BAND)
    axes.axhline(0, zorder=1.5, **ZERO)
    for name, group in groups.items():
        style = sign(list(groups), name)
        seen = [seeds for seeds in group.variants if seeds]
        means = sorted(
            tuple(np.mean([(dot.rate, dot.log_ratio) for dot in seeds], axis=0)) for seeds in seen
        )
        if len(means) > 1:
            axes.plot(*zip(*means, strict=True), color=style["color"], **JOINED)
        for seeds in seen:
            ratios = [dot.log_ratio for dot in seeds]
            if len(seeds) == 1:
                (dot,) = seeds
                axes.errorbar(
                    dot.rate,
                    dot.log_ratio,
                    dot.standard_error,
                    color=style["color"],
                    capsize=3,
                    linewidth=1,
                )
            _seeds(axes, style, seeds, ratios)


def _seeds(axes: Axes, style: Mapping[str, Any], seeds: Sequence[Dot], y: Sequence[float]) -> None:
    """The runs of one variant; with several seeds hollow, so that those below are seen."""
    face = {"markerfacecolor": "white"} if len(seeds) > 1 else {}
    axes.plot([dot.rate for dot in seeds], y, **{**style, **POINT, **face})


def _greys(count: int) -> list[dict[str, Any]]:
    """Styles of curves of which each may lie on the one before it: narrower, darker and dashed."""
    return [
        {
            "color": f"{0.72 - 0.4 * index / max(1, count - 1):.2f}",
            "linewidth": 2 if index == 0 else 1,
            "linestyle": PATTERNS[index % len(PATTERNS)],
        }
        for index in range(count)
    ]


def _keys(
    groups: Mapping[str, Group], entries: Sequence[int], common: tuple[float, float] | None
) -> list[Any]:
    several = any(len(seeds) > 1 for group in groups.values() for seeds in group.variants)
    face = {"markerfacecolor": "white"} if several else {}
    keys: list[Any] = [
        Line2D([], [], label=_label(name, group), **{**sign(list(groups), name), **POINT, **face})
        for name, group in groups.items()
    ]
    keys += [
        Line2D([], [], label=f"linear VAE (PCA), {count:,} entries", **style)
        for count, style in zip(entries, _greys(len(entries)), strict=True)
    ]
    keys.append(Line2D([], [], label="short lines: slope -w", color="0.3", **SLOPE))
    if common is not None:
        keys.append(Patch(label="rates of the mean log ratio", **BAND))
    return keys


def _label(name: str, group: Group) -> str:
    if group.mean is None:
        return name
    error = "" if group.error is None else f" +- {group.error:.4f}"
    return f"{name}: mean {group.mean:+.4f}{error}"
