"""The KL of every latent map, by rank."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from svae.figures.frame import MOST_MARKED, curve_style, framed, further_seeds, logarithmic
from svae.figures.style import line

FLOOR = 1e-3  # nats; maps with a smaller KL are drawn there
MOST_LINEAR = 100  # latent maps; for more, the axis of ranks is logarithmic


def kl_per_map(kl: Mapping[str, Sequence[Sequence[float]]], title: str) -> Figure:
    """Draw KL by rank. kl: variant -> for each seed, the KL of every latent map in nats."""
    variants = list(kl)
    keys = [Line2D([], [], label=name, **line(variants, name)) for name in variants]
    figure, axes = framed([*keys, *further_seeds(kl)], title)
    low = min(min(seed) for seeds in kl.values() for seed in seeds)
    maps = max(len(seed) for seeds in kl.values() for seed in seeds)
    ranked = maps > MOST_LINEAR
    top = FLOOR
    for name, seeds in kl.items():
        for index, values in enumerate(seeds):
            heights = np.maximum(np.sort(values)[::-1], FLOOR)
            top = max(top, heights[0])
            style = curve_style(variants, name, index, len(values))
            if ranked and not index:
                style["markevery"] = _even_ranks(len(values), variants.index(name) / len(variants))
            axes.plot(np.arange(1, len(values) + 1), heights, **style)
    bottom = max(low, FLOOR)
    logarithmic(axes, axes.yaxis, bottom, max(top, 10 * bottom), 0.06)
    if ranked:
        logarithmic(axes, axes.xaxis, 1, maps)
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
