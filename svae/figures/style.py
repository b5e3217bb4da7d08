"""What all figures share: sizes, colours and markers of the variants, and how a figure is saved."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from svae.jobs.files import replacing

DPI = 200
LETTER = 18  # the width of a letter of font size 10, in pixels; few are wider
# Okabe and Ito's colours, told apart by the colour-blind, but for the yellow, which is too pale.
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")  # 9 and 7 have no common divisor
# On and off, in line widths; 5 of them, which has no common divisor with 7 and 9.
PATTERNS = ("solid", (0, (6, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)), (0, (3, 3)))
RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 11,
    "markerfacecolor": "none",
    "color": "black",
    "linestyle": "none",
}


def blank(width: int, height: int) -> Figure:
    """An empty figure; sizes in pixels."""
    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI)


def save(figure: Figure, target: Path | str) -> None:
    """Write a PNG that is the same for the same figure, whole or not at all."""
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})


def sign(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """Colour and marker of a variant among `variants`, as arguments of a line."""
    index = variants.index(variant)
    marker, colour = MARKERS[index % len(MARKERS)], COLOURS[index % len(COLOURS)]
    return {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.2}


def line(variants: Sequence[str], variant: str) -> dict[str, Any]:
    """As `sign`, and a pattern of dashes, for lines that are told apart between their markers."""
    pattern = PATTERNS[variants.index(variant) % len(PATTERNS)]
    return {**sign(variants, variant), "linestyle": pattern}


@functools.cache
def text_width(text: str, size: float) -> int:
    """Of one line of text in a font of that size, in pixels; no less than what is drawn."""
    font = FontProperties(size=size)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return math.ceil(1.03 * width * DPI / 72) + 2
