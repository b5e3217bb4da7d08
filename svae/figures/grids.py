"""Rows and grids of images: every pixel as it is, enlarged by a whole number.

The text grows with the images, so that it can be read in a figure that is scaled to a page's width.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform

from svae.figures.style import DPI, blank, save
from svae.pixels import to_bytes

IMAGE_PIXELS = 150  # about the side of an image in the figure
GAP = 12  # between rows, and around; in pixels
APART = 3 * GAP  # between what belongs less together
NARROW = 5  # at least, between images of a row
FONT, SMALLEST_FONT = 0.02, 28  # height of the text, of the width of the images; in pixels
# In heights of the text: the width of a letter, few are wider; from line to line; above images.
LETTER, LINE, TITLE = 0.65, 1.5, 2.5


class Row(NamedTuple):
    """A row of images: uint8 (columns, height, width, channel), one or three channels."""

    label: str
    """On its left; may be empty."""
    images: np.ndarray
    below: int = GAP
    """White pixels below it."""
    ends_apart: bool = False
    """Whether more space sets the first and the last image apart from those between."""


def comparison(rows: dict[str, np.ndarray], title: str, target: Path | str) -> None:
    """The paper's figure: labelled rows of images.

    rows: label -> images in [-1, 1], float (columns, height, width, channel), one or three
    channels. Values are shown as they are, -1 black and 1 white.
    """
    labelled_rows([Row(label, to_bytes(images)) for label, images in rows.items()], title, target)


def labelled_rows(rows: Sequence[Row], title: str, target: Path | str) -> None:
    """Rows of images of one size, each with a label, below a title.

    Nothing is stretched, and each pixel of an image covers the same whole number of the figure's.
    """
    save(_labelled_rows(rows, title), target)


def sheet(images: np.ndarray, title: str, target: Path | str, columns: int = 8) -> None:
    """A grid of uint8 images (n, height, width, channel) below a title, as `labelled_rows`."""
    save(_titled(images, title, columns), target)


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
    save(_sheet(splits, title, caption, columns), target)


def _labelled_rows(rows: Sequence[Row], title: str) -> Figure:
    columns = max(len(row.images) for row in rows)
    scale = _scale(rows[0].images.shape[2], columns)
    strips = [_strip(row, scale) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    font = _font(width)
    left = _length(max(len(row.label) for row in rows), font) + 2 * GAP
    full = max(left + width + GAP, _length(len(title), font))
    top = round(TITLE * font)
    figure = blank(full, top + sum(map(len, strips)) + sum(row.below for row in rows))
    _write(figure, title, full / 2, top / 2, font, ha="center")
    for row, strip in zip(rows, strips, strict=True):
        _put(figure, strip, left, top)
        _write(figure, row.label, left - GAP, top + len(strip) / 2, font, ha="right")
        top += len(strip) + row.below
    return figure


def _strip(row: Row, scale: int) -> np.ndarray:
    """The images of a row beside each other: uint8 (height, width, 3)."""
    ends = 1 if row.ends_apart else 0
    parts = np.split(row.images, [ends, len(row.images) - ends])
    strips = [_grid(part, len(part), scale, _gap(scale)) for part in parts if len(part)]
    space = np.full((len(strips[0]), APART, 3), 255, np.uint8)
    spaced = [block for strip in strips for block in (space, strip)]
    return np.concatenate(spaced[1:], axis=1)


def _titled(images: np.ndarray, title: str, columns: int) -> Figure:
    scale = _scale(images.shape[2], columns)
    grid = _grid(images, columns, scale, _gap(scale))
    font = _font(grid.shape[1])
    full = max(grid.shape[1], _length(len(title), font)) + 2 * GAP
    top = round(TITLE * font)
    figure = blank(full, top + len(grid) + GAP)
    _write(figure, title, full / 2, top / 2, font, ha="center")
    _put(figure, grid, (full - grid.shape[1]) // 2, top)
    return figure


def _sheet(
    splits: Mapping[str, tuple[np.ndarray, int]], title: str, caption: str, columns: int
) -> Figure:
    scale = _scale(next(iter(splits.values()))[0].shape[2], columns)
    grids = {
        f"{split}: {count:,} image{'' if count == 1 else 's'}": _grid(images, columns, scale, GAP)
        for split, (images, count) in splits.items()
    }
    width = max(grid.shape[1] for grid in grids.values())
    font = _font(width)
    width = max(width, _length(max(map(len, grids)), font))
    letters = int(width / (LETTER * font))
    line = round(LINE * font)
    places, top = [], GAP
    for section in (_lines(title, letters), *grids.items(), _lines(caption, letters)):
        for block in section:
            places.append((block, top))
            top += line if isinstance(block, str) else len(block)
        top += 2 * GAP
    figure = blank(width + 2 * GAP, top)
    for block, top in places:
        if isinstance(block, str):
            _write(figure, block, GAP, top + line / 2, font, ha="left")
        else:
            _put(figure, block, GAP, top)
    return figure


def _lines(text: str, letters: int) -> list[str]:
    return [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]


def _font(width: int) -> int:
    """The height of the text, in pixels, of a figure whose images take this width."""
    return max(SMALLEST_FONT, round(FONT * width))


def _length(letters: int, font: int) -> int:
    """The width of a text of so many letters, in pixels."""
    return round(LETTER * font * letters)


def _scale(width: int, columns: int) -> int:
    """How many pixels of the figure, in each direction, an image's pixel gets."""
    return max(1, round(IMAGE_PIXELS * columns / (columns * (width + 1) - 1)))


def _gap(scale: int) -> int:
    """Between images of this scale: one of their own pixels, or what can still be seen."""
    return max(scale, NARROW)


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


def _put(figure: Figure, pixels: np.ndarray, left: int, top: int) -> None:
    """Place uint8 pixels (height, width, 3) in the figure, as they are."""
    figure.figimage(pixels, left, int(figure.bbox.height) - top - len(pixels))


def _write(figure: Figure, text: str, x: float, y: float, font: int, ha: str) -> None:
    """One line of text; `x` from the left, and `y` of its middle from the top, in pixels."""
    figure.text(
        x,
        figure.bbox.height - y,
        text,
        transform=IdentityTransform(),
        ha=ha,
        va="center",
        fontsize=font * 72 / DPI,
    )
