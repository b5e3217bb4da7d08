"""Rows and grids of images, in which every pixel is enlarged by the same integer factor.

The text scales with the images, so that it stays readable when the figure is scaled to a page.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform

from svae.figures.style import DPI, blank, text_width

IMAGE_PIXELS = 150  # approximate side of an image in the figure
GAP = 12  # between rows and at the margins, in pixels
APART = 3 * GAP  # between groups of rows
NARROW = 5  # least gap between images of a row, in pixels
FONT, SMALLEST_FONT = 0.024, 28  # height of the text: share of the images' width; in pixels
SMALL = 0.8  # height of details and of the caption, relative to other text
# In heights of the text: line spacing; line spacing within a label; space above images.
LINE, TIGHT, TITLE = 1.5, 1.3, 2.5
BLACK, GREY = "black", "#505050"


class Row(NamedTuple):
    """A row of images: uint8 (columns, height, width, channel), one or three channels."""

    label: str
    """Shown at its left; may be empty."""
    images: np.ndarray
    below: int = GAP
    """White pixels below it."""
    ends_apart: bool = False
    """Whether extra space separates the first and the last image from the others."""
    details: Sequence[str] = ()
    """Smaller lines below the label."""


class _Line(NamedTuple):
    """A line of a label."""

    text: str
    font: int
    """Height of the text, in pixels."""
    colour: str


def labelled_rows(rows: Sequence[Row], title: str, caption: str = "") -> Figure:
    """Draw rows of images of one size, each with a label, below a title and above a caption.

    Contrast is not changed, and each pixel of an image covers a square of the same number of the
    figure's pixels. The caption, which may be empty, is broken into lines.
    """
    columns = max(len(row.images) for row in rows)
    scale = _scale(rows[0].images.shape[2], columns)
    strips = [_strip(row, scale) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    font = _font(width)
    small = round(SMALL * font)
    labels = [_label(row, font, small) for row in rows]
    lengths = [_width(line.text, line.font) for label in labels for line in label]
    space = max(GAP, font // 3)
    left = max(lengths, default=0) + 2 * space
    texts = [_width(title, font), *(_width(word, small) for word in _words(caption))]
    full = max(left + width + GAP, *(length + 2 * space for length in texts))
    heights = [
        max(len(strip), sum(_leading(line) for line in label))
        for strip, label in zip(strips, labels, strict=True)
    ]
    top = round(TITLE * font)
    bottom = top + sum(heights) + sum(row.below for row in rows)
    lines = _lines(caption, full - 2 * space, small)
    under = round(LINE * small * len(lines)) + 2 * space if lines else 0
    figure = blank(full, bottom + under)
    _write(figure, title, full / 2, top / 2, font, ha="center")
    for row, strip, label, height in zip(rows, strips, labels, heights, strict=True):
        _put(figure, strip, left, top + (height - len(strip)) // 2)
        _write_label(figure, label, left - space, top + height / 2)
        top += height + row.below
    for index, line in enumerate(lines):
        y = bottom + space + LINE * small * (index + 0.5)
        _write(figure, line, space, y, small, ha="left")
    return figure


def sheet(images: np.ndarray, title: str, columns: int = 8) -> Figure:
    """Draw a grid of uint8 images (n, height, width, channel) below a title."""
    scale = _scale(images.shape[2], columns)
    grid = _grid(images, columns, scale, _gap(scale))
    font = _font(grid.shape[1])
    full = max(grid.shape[1], _width(title, font)) + 2 * GAP
    top = round(TITLE * font)
    figure = blank(full, top + len(grid) + GAP)
    _write(figure, title, full / 2, top / 2, font, ha="center")
    _put(figure, grid, (full - grid.shape[1]) // 2, top)
    return figure


def contact_sheet(
    splits: Mapping[str, tuple[np.ndarray, int]],
    title: str,
    caption: str,
    columns: int,
) -> Figure:
    """Draw some images of every split of a data set, for a look before training.

    splits: name -> the images to show, uint8 (shown, height, width, channel) with one or three
    channels, and the number of images in the split. Images are in rows of `columns`, drawn as by
    `labelled_rows`. The title above and the caption below are broken into lines; see
    svae.report.draw_contact_sheet.
    """
    scale = _scale(next(iter(splits.values()))[0].shape[2], columns)
    grids = {
        f"{split}: {count:,} image{'' if count == 1 else 's'}": _grid(images, columns, scale, GAP)
        for split, (images, count) in splits.items()
    }
    width = max(grid.shape[1] for grid in grids.values())
    font = _font(width)
    texts = [*grids, *_words(title), *_words(caption)]
    width = max(width, *(_width(text, font) for text in texts))
    line = round(LINE * font)
    places, top = [], GAP
    for section in (_lines(title, width, font), *grids.items(), _lines(caption, width, font)):
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


def _label(row: Row, font: int, small: int) -> list[_Line]:
    name = [_Line(row.label, font, BLACK)] if row.label else []
    return name + [_Line(detail, small, GREY) for detail in row.details]


def _leading(line: _Line) -> int:
    """The line height of a label's line, in pixels."""
    return round(TIGHT * line.font)


def _write_label(figure: Figure, label: Sequence[_Line], right: int, middle: float) -> None:
    """Write lines one below another, right-aligned at `right`; `middle`: pixels from the top."""
    top = middle - sum(map(_leading, label)) / 2
    for line in label:
        y = top + _leading(line) / 2
        _write(figure, line.text, right, y, line.font, ha="right", colour=line.colour)
        top += _leading(line)


def _strip(row: Row, scale: int) -> np.ndarray:
    """The images of a row side by side: uint8 (height, width, 3)."""
    ends = 1 if row.ends_apart else 0
    parts = np.split(row.images, [ends, len(row.images) - ends])
    strips = [_grid(part, len(part), scale, _gap(scale)) for part in parts if len(part)]
    space = np.full((len(strips[0]), APART, 3), 255, np.uint8)
    spaced = [block for strip in strips for block in (space, strip)]
    return np.concatenate(spaced[1:], axis=1)


def _lines(text: str, width: int, font: int) -> list[str]:
    """The text in lines of at most this width in pixels; longer words and line breaks stay."""
    lines = []
    for part in text.splitlines():
        line = ""
        for word in part.split(" "):
            longer = f"{line} {word}" if line else word
            if line and _width(longer, font) > width:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _words(text: str) -> list[str]:
    """The unbreakable parts: a non-breaking space is part of a word."""
    return [word for part in text.splitlines() for word in part.split(" ")]


def _font(width: int) -> int:
    """The height of the text, in pixels, for images of this total width."""
    return max(SMALLEST_FONT, round(FONT * width))


def _width(text: str, font: int) -> int:
    """The width of a line of text of this height; both in pixels."""
    return text_width(text, font * 72 / DPI)


def _scale(width: int, columns: int) -> int:
    """The side, in pixels of the figure, of one pixel of an image."""
    return max(1, round(IMAGE_PIXELS * columns / (columns * (width + 1) - 1)))


def _gap(scale: int) -> int:
    """The gap between images of this scale: one of their pixels, or the narrowest visible gap."""
    return max(scale, NARROW)


def _grid(images: np.ndarray, columns: int, scale: int, gap: int) -> np.ndarray:
    """uint8 images (n, height, width, channel), enlarged by `scale`, in rows of `columns`.

    `gap`: white pixels between them. Returns uint8 (height, width, 3).
    """
    large = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = np.add(large.shape[1:3], gap)
    rows = -(-len(images) // columns)
    grid = np.full((rows * height - gap, columns * width - gap, 3), 255, np.uint8)
    for index, image in enumerate(large):
        top, left = height * (index // columns), width * (index % columns)
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def _put(figure: Figure, pixels: np.ndarray, left: int, top: int) -> None:
    """Place uint8 pixels (height, width, 3) in the figure, unchanged."""
    figure.figimage(pixels, left, int(figure.bbox.height) - top - len(pixels))


def _write(
    figure: Figure, text: str, x: float, y: float, font: int, ha: str, colour: str = BLACK
) -> None:
    """Write a line of text at `x` from the left, its middle `y` from the top, in pixels."""
    figure.text(
        x,
        figure.bbox.height - y,
        text,
        transform=IdentityTransform(),
        ha=ha,
        va="center",
        fontsize=font * 72 / DPI,
        color=colour,
    )
