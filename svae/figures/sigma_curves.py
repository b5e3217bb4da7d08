"""The choice of sigma: the score against sigma for every run, with a ring at the chosen one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from svae.figures.frame import curve_style, framed, further_seeds, logarithmic
from svae.figures.style import RING, line

EDGE = "at the grid's edge"
# How far below the lowest maximum the axis extends: in distances between the maxima, and in heights
# of a peak above its higher neighbour.
SPREADS, PEAKS = 0.5, 1.5


@dataclass(frozen=True)
class SigmaChoice:
    """How one run's sigma was chosen."""

    sigmas: Sequence[float]
    """The grid in ascending order, in pixel units of [-1, 1]."""
    log_likelihood: Sequence[float]
    """For each sigma of the grid, mean over the images that choose sigma, in nats per image."""
    chosen: float
    """The sigma used; lies between sigmas of the grid if it was refined by a search."""
    chosen_log_likelihood: float
    """The mean at the chosen sigma."""
    at_edge: bool


def sigma_curves(choices: Mapping[str, Sequence[SigmaChoice]], title: str) -> Figure:
    """Draw the score against sigma. choices: variant -> one per seed."""
    variants = list(choices)
    keys = []
    for variant, seeds in choices.items():
        edge = any(choice.at_edge for choice in seeds)
        label = f"{variant} ({EDGE})" if edge else variant
        keys.append(Line2D([], [], label=label, **line(variants, variant)))
    keys += further_seeds(choices)
    between = any(
        choice.chosen not in choice.sigmas for seeds in choices.values() for choice in seeds
    )
    label = "chosen sigma, refined within the grid" if between else "chosen sigma"
    keys.append(Line2D([], [], label=label, **RING))
    figure, axes = framed(keys, title)
    for variant, seeds in choices.items():
        for index, choice in enumerate(seeds):
            style = curve_style(variants, variant, index, len(choice.sigmas))
            sigmas, heights = _curve(choice)
            if "markevery" in style:
                marked = choice.sigmas[slice(style["markevery"][0], None, style["markevery"][1])]
                style["markevery"] = np.searchsorted(sigmas, marked).tolist()
            axes.plot(sigmas, heights, **style)
            ring = {**RING, "color": style["color"], "markersize": 6 if index else 11}
            axes.plot(choice.chosen, choice.chosen_log_likelihood, **ring)
    everything = [choice for seeds in choices.values() for choice in seeds]
    low, high, cut = _heights(everything)
    axes.set_ylim(low - 0.04 * (high - low), high + 0.06 * (high - low))
    sigmas = [sigma for choice in everything for sigma in choice.sigmas]
    logarithmic(axes, axes.xaxis, min(sigmas), max(sigmas))
    note = "; lower values are cut off" if cut else ""
    axes.set_xlabel(f"sigma (pixels on [-1, 1]){note}", fontsize=9)
    axes.set_ylabel(
        "mean log-likelihood of the images\nthat choose sigma (nats per image)", fontsize=9
    )
    return figure


def _curve(choice: SigmaChoice) -> tuple[list[float], list[float]]:
    """Sigmas in ascending order and the value at each: those of the grid, and the chosen one."""
    points = dict(zip(choice.sigmas, choice.log_likelihood, strict=True))
    points[choice.chosen] = choice.chosen_log_likelihood
    sigmas = sorted(points)
    return sigmas, [points[sigma] for sigma in sigmas]


def _heights(choices: Sequence[SigmaChoice]) -> tuple[float, float, bool]:
    """Lowest and highest value to show, and whether there are lower ones.

    Sigmas that are far too small score so low that, with them on the axis, the maxima could not be
    distinguished.
    """
    tops = [max(*choice.log_likelihood, choice.chosen_log_likelihood) for choice in choices]
    high, lowest_top = max(tops), min(tops)
    peak = max(_peak(choice.log_likelihood) for choice in choices)
    low = lowest_top - max(SPREADS * (high - lowest_top), PEAKS * peak)
    low = min([low, *(choice.chosen_log_likelihood for choice in choices)])
    lowest = min(min(choice.log_likelihood) for choice in choices)
    if lowest == high:  # one sigma
        return high - 1, high + 1, False
    return (low, high, True) if lowest < low < high else (lowest, high, False)


def _peak(values: Sequence[float]) -> float:
    """How far the largest value is above its larger neighbour; 0 for a single value."""
    best = int(np.argmax(values))
    neighbours = [*values[max(0, best - 1) : best], *values[best + 1 : best + 2]]
    return values[best] - max(neighbours, default=values[best])
