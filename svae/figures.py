"""All drawing. Takes arrays, writes images."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import IdentityTransform

from svae.files import replacing

DPI = 200
IMAGE_PIXELS = 150  # about the side of an image in the figure
GAP, TITLE = 12, 70  # between rows, above them; in pixels
LINE = 42  # from one line of text to the next, in pixels
PIXELS_PER_LETTER = 18  # of a row's label
CURVES_WIDTH, PANEL_HEIGHT, KEY = 2000, 520, 130  # of training curves; KEY: sign in the legend
# Okabe and Ito's colours, told apart by the colour-blind, but for the yellow, which is too pale.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # 9 and 7 have no common divisor
DASHES = {"training": (0, (3, 1.5)), "validation": "solid"}
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "color": "black",
    "linestyle": "none",
}
MOST_MARKED = 12  # epochs; beyond, only some carry a marker
FACTOR = 20  # between smallest and largest value, beyond which a wide axis is logarithmic


def comparison(rows: dict[str, np.ndarray], title: str, target: Path | str) -> None:
    """The paper's figure: labelled rows of images.

    rows: label -> images in [-1, 1], float (columns, height, width, channel), one or three
    channels. Values are shown as they are, -1 black and 1 white: nothing is stretched, and each
    pixel of an image covers the same whole number of the figure's.
    """
    columns = max(len(images) for images in rows.values())
    scale = _scale(next(iter(rows.values())).shape[2], columns)
    grids = {
        label: _grid(_levels(images), columns, scale, gap=scale) for label, images in rows.items()
    }
    height, width = next(iter(grids.values())).shape[:2]
    left = PIXELS_PER_LETTER * (max(map(len, rows)) + 1)
    full = max(left + width + GAP, PIXELS_PER_LETTER * len(title))
    figure = _figure(full, TITLE + len(rows) * (height + GAP))
    _write(figure, title, full / 2, TITLE / 2, ha="center")
    for row, (label, grid) in enumerate(grids.items()):
        top = TITLE + row * (height + GAP)
        _put(figure, grid, left, top)
        _write(figure, label, left - GAP, top + height / 2, ha="right")
    _save(figure, target)


def contact_sheet(
    splits: Mapping[str, tuple[np.ndarray, int]],
    title: str,
    caption: str,
    columns: int,
    target: Path | str,
) -> None:
    """Some images of every split of a data set, to look at before training on it.

    splits: name -> the images to show, uint8 (shown, height, width, channel) with one or three
    channels, and how many images the split has. They stand in rows of `columns`; nothing is
    stretched, and each pixel of an image covers the same whole number of the figure's. Title,
    above, and caption, below, are broken into lines that fit; see svae.contact_sheet.
    """
    _save(_sheet(splits, title, caption, columns), target)


@dataclass
class Panel:
    """One set of axes of the training curves.

    curves: variant -> training, validation or both -> one value an epoch, from the first.
    wide: positive values may span orders of magnitude. from_zero: 0 is on the axis.
    """

    curves: dict[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    wide: bool = False
    from_zero: bool = False


def training_curves(
    panels: Mapping[str, Panel], chosen: Mapping[str, int], title: str, target: Path | str
) -> None:
    """Curves over epochs, two panels side by side, the first one alone if their number is odd. One
    panel at least has all variants, in the order in which they are to be named.

    panels: label of the axis, with unit -> panel. Every variant has its colour and its marker in
    all; training is dashed with hollow markers, validation solid. chosen: variant -> an epoch that
    is ringed on its validation curve in the first panel that has it, that of the weights that were
    taken where it is not the last.
    """
    _save(_curves(panels, chosen, title), target)


def _curves(panels: Mapping[str, Panel], chosen: Mapping[str, int], title: str) -> Figure:
    variants = list(max((panel.curves for panel in panels.values()), key=len))
    keys = _keys(variants, ringed=bool(chosen))
    letters = max(len(key.get_label()) for key in keys)
    columns = min(len(keys), max(1, CURVES_WIDTH // (PIXELS_PER_LETTER * letters + KEY)))
    rows = -(-len(panels) // 2)
    height = 2 * TITLE + rows * PANEL_HEIGHT + -(-len(keys) // columns) * LINE
    figure = _figure(CURVES_WIDTH, height)
    figure.set_layout_engine("constrained")
    figure.suptitle(title, fontsize=11)
    figure.legend(handles=keys, loc="outside lower center", ncols=columns, fontsize=9)
    grid = figure.add_gridspec(rows, 2)
    alone = len(panels) % 2
    longest = max(
        len(values)
        for panel in panels.values()
        for curves in panel.curves.values()
        for values in curves.values()
    )
    left = dict(chosen)
    for place, (axis, panel) in enumerate(panels.items(), alone):
        row, column = divmod(place, 2)
        axes = figure.add_subplot(grid[0, :] if alone and row == 0 else grid[row, column])
        _draw_panel(axes, axis, panel, variants)
        axes.set_xlim(0.5, longest + 0.5)
        for variant in [variant for variant in left if variant in panel.curves]:
            epoch = left.pop(variant)
            ring = {**RING, "color": _style(variants, variant)["color"]}
            axes.plot(epoch, panel.curves[variant]["validation"][epoch - 1], **ring)
    return figure


def _style(variants: Sequence[str], variant: str) -> dict[str, Any]:
    index = variants.index(variant)
    marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
    return {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.2}


def _kind(kind: str) -> dict[str, Any]:
    face = {"markerfacecolor": "white"} if kind == "training" else {}
    return {"linestyle": DASHES[kind], **face}


def _keys(variants: Sequence[str], ringed: bool) -> list[Line2D]:
    keys = [Line2D([], [], label=variant, **_style(variants, variant)) for variant in variants]
    grey = {"color": "grey", "marker": "o", "markersize": 4.5, "linewidth": 1.2}
    keys += [Line2D([], [], label=kind, **grey, **_kind(kind)) for kind in DASHES]
    return [*keys, Line2D([], [], label="weights taken", **RING)] if ringed else keys


def _draw_panel(axes: Axes, label: str, panel: Panel, variants: Sequence[str]) -> None:
    everything = []
    for variant, curves in panel.curves.items():
        for kind, values in curves.items():
            every = -(-len(values) // MOST_MARKED)
            start = variants.index(variant) % every  # so that few markers lie on each other
            axes.plot(
                np.arange(1, len(values) + 1),
                values,
                markevery=(start, every),
                clip_on=False,  # so that a marker on the edge is whole
                **_style(variants, variant),
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
    if all(isinstance(value, int) for value in everything):
        axes.yaxis.set_major_locator(_whole_numbers())
    axes.set_xlabel("epoch", fontsize=9)
    axes.set_ylabel(label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


def _whole_numbers() -> MaxNLocator:
    return MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10))


def _sheet(
    splits: Mapping[str, tuple[np.ndarray, int]], title: str, caption: str, columns: int
) -> Figure:
    scale = _scale(next(iter(splits.values()))[0].shape[2], columns)
    grids = {
        f"{split}: {count:,} image{'' if count == 1 else 's'}": _grid(images, columns, scale, GAP)
        for split, (images, count) in splits.items()
    }
    widths = (grid.shape[1] for grid in grids.values())
    width = max(PIXELS_PER_LETTER * max(map(len, grids)), *widths)
    letters = width // PIXELS_PER_LETTER
    places, top = [], GAP
    for section in (_lines(title, letters), *grids.items(), _lines(caption, letters)):
        for block in section:
            places.append((block, top))
            top += LINE if isinstance(block, str) else len(block)
        top += 2 * GAP
    figure = _figure(width + 2 * GAP, top)
    for block, top in places:
        if isinstance(block, str):
            _write(figure, block, GAP, top + LINE / 2, ha="left")
        else:
            _put(figure, block, GAP, top)
    return figure


def _lines(text: str, letters: int) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]


def _scale(width: int, columns: int) -> int:
    """How many pixels of the figure, in each direction, an image's pixel gets."""
    return max(1, round(IMAGE_PIXELS * columns / (columns * (width + 1) - 1)))


def _levels(images: np.ndarray) -> np.ndarray:
    """[-1, 1] -> uint8; what lies outside is cut."""
    return np.rint(127.5 * (np.clip(images, -1, 1) + 1)).astype(np.uint8)


def _grid(images: np.ndarray, columns: int, scale: int, gap: int) -> np.ndarray:
    """uint8 images (n, height, width, channel) enlarged by `scale`, in rows of `columns`, with
    `gap` white pixels between: uint8 (height, width, 3)."""
    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = np.add(large.shape[1:3], gap)
    rows = -(-len(images) // columns)
    grid = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for index, image in enumerate(large):
        top, left = height * (index // columns), width * (index % columns)
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def _figure(width: int, height: int) -> Figure:
    """An empty figure; sizes in pixels."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI)


def _put(figure: Figure, pixels: np.ndarray, left: int, top: int) -> None:
    """Place uint8 pixels (height, width, 3) in the figure, as they are."""
    figure.figimage(pixels, left, int(figure.bbox.height) - top - len(pixels))


def _write(figure: Figure, text: str, x: float, y: float, ha: str) -> None:
    """One line of text; `x` from the left, and `y` of its middle from the top, in pixels."""
    figure.text(
        x,
        figure.bbox.height - y,
        text,
        transform=IdentityTransform(),
        ha=ha,
        va="center",
        fontsize=10,
    )


def _save(figure: Figure, target: Path | str) -> None:
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
