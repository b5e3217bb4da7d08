"""Rows and grids of images: every pixel as it is, enlarged by a whole number."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform

from svae.figures.style import LETTER, blank, save
from svae.pixels import to_bytes

IMAGE_PIXELS = 150  # about the side of an image in the figure
GAP, TITLE = 12, 70  # between rows, above them; in pixels
LINE = 42  # from one line of text to the next, in pixels


def comparison(rows: dict[str, np.ndarray], title: str, target: Path | str) -> None:
    """The paper's figure: labelled rows of images.

    rows: label -> images in [-1, 1], float (columns, height, width, channel), one or three
    channels. Values are shown as they are, -1 black and 1 white.
    """
    labelled_rows([(label, to_bytes(images)) for label, images in rows.items()], title, target)


def labelled_rows(rows: Sequence[tuple[str, np.ndarray]], title: str, target: Path | str) -> None:
    """Rows of images, each with a label, which may be empty, on its left.

    rows: label and uint8 images (columns, height, width, channel), one or three channels. Nothing
    is stretched, and each pixel of an image covers the same whole number of the figure's.
    """
    columns = max(len(images) for _, images in rows)
    scale = _scale(rows[0][1].shape[2], columns)
    grids = [(label, _grid(images, columns, scale, gap=scale)) for label, images in rows]
    height, width = grids[0][1].shape[:2]
    left = LETTER * (max(len(label) for label, _ in rows) + 1)
    full = max(left + width + GAP, LETTER * len(title))
    figure = blank(full, TITLE + len(rows) * (height + GAP))
    _write(figure, title, full / 2, TITLE / 2, ha="center")
    for row, (label, grid) in enumerate(grids):
        top = TITLE + row * (height + GAP)
        _put(figure, grid, left, top)
        _write(figure, label, left - GAP, top + height / 2, ha="right")
    save(figure, target)


def sheet(images: np.ndarray, title: str, target: Path | str, columns: int = 8) -> None:
    """A grid of uint8 images (n, height, width, channel) below a title, as `labelled_rows`."""
    scale = _scale(images.shape[2], columns)
    grid = _grid(images, columns, scale, gap=scale)
    full = max(grid.shape[1], LETTER * len(title)) + 2 * GAP
    figure = blank(full, TITLE + len(grid) + GAP)
    _write(figure, title, full / 2, TITLE / 2, ha="center")
    _put(figure, grid, (full - grid.shape[1]) // 2, TITLE)
    save(figure, target)


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


def _sheet(
    splits: Mapping[str, tuple[np.ndarray, int]], title: str, caption: str, columns: int
) -> Figure:
    scale = _scale(next(iter(splits.values()))[0].shape[2], columns)
    grids = {
        f"{split}: {count:,} image{'' if count == 1 else 's'}": _grid(images, columns, scale, GAP)
        for split, (images, count) in splits.items()
    }
    widths = (grid.shape[1] for grid in grids.values())
    width = max(LETTER * max(map(len, grids)), *widths)
    letters = width // LETTER
    places, top = [], GAP
    for section in (_lines(title, letters), *grids.items(), _lines(caption, letters)):
        for block in section:
            places.append((block, top))
            top += LINE if isinstance(block, str) else len(block)
        top += 2 * GAP
    figure = blank(width + 2 * GAP, top)
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
