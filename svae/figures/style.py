"""Shared by all figures: sizes, and the colours and markers of the variants."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

# Neither a matplotlibrc in the home or working folder nor the caller's settings change a figure.
matplotlib.rcdefaults()

DPI = 200
LETTER = 18  # width of a letter of font size 10, in pixels; few are wider
# Okabe and Ito's colours, which the colour-blind can distinguish; without the yellow, too pale.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # 9 and 7 have no common divisor
# On and off, in line widths; 5 patterns, which has no common divisor with 7 and 9.
PATTERNS = ("solid", (0, (6, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)))
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "color": "black",
    "linestyle": "none",
}


def blank(width: int, height: int) -> Figure:
    """Return an empty figure; sizes in pixels."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI)


def sign(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Return colour and marker of a variant among `variants`, as arguments of a line."""
    index = variants.index(variant)
    marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
    return {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.2}


def line(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Return `sign` plus a dash pattern, which distinguishes lines between their markers."""
    pattern = PATTERNS[variants.index(variant) % len(PATTERNS)]
    return {**sign(variants, variant), "linestyle": pattern}


@functools.cache
def text_width(text: str, size: float) -> int:
    """Return the width in pixels of a line of text in this font size; never too small."""
    font = FontProperties(size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return math.ceil(1.03 * width * DPI / 72) + 2
