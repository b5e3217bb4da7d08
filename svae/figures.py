"""All drawing. Takes arrays, writes images."""

from pathlib import Path

import matplotlib
import numpy as np

from svae.files import replacing

matplotlib.use("Agg")
import matplotlib.pyplot as plt

DPI = 200
IMAGE_PIXELS = 150  # about the side of an image in the figure
GAP, TITLE = 12, 70  # between rows, above them; in pixels
PIXELS_PER_LETTER = 18  # of a row's label


def comparison(rows: dict[str, np.ndarray], title: str, target: Path | str) -> None:
    """The paper's figure: labelled rows of images.

    rows: label -> images in [-1, 1], float (columns, height, width, channel), one or three
    channels. Values are shown as they are, -1 black and 1 white: nothing is stretched, and each
    pixel of an image covers the same whole number of the figure's.
    """
    columns = max(len(images) for images in rows.values())
    strips = {label: _strip(images, columns) for label, images in rows.items()}
    height, width = next(iter(strips.values())).shape[:2]
    scale = max(1, round(IMAGE_PIXELS * columns / width))
    height, width = scale * height, scale * width
    left = PIXELS_PER_LETTER * (max(map(len, rows)) + 1)
    full = max(left + width + GAP, PIXELS_PER_LETTER * len(title))
    shape = np.array([full, TITLE + len(rows) * (height + GAP)])  # in pixels, x and y
    figure = plt.figure(figsize=shape / DPI, dpi=DPI)
    for row, (label, strip) in enumerate(strips.items()):
        bottom = shape[1] - TITLE - row * (height + GAP) - height
        place = np.array([left, bottom, width, height]) / np.tile(shape, 2)
        axis = figure.add_axes(place)
        axis.imshow(strip, interpolation="nearest", vmin=0, vmax=1, cmap="gray", aspect="auto")
        axis.set_axis_off()
        axis.text(
            -GAP / width, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=10
        )
    figure.text(0.5, 1 - TITLE / 2 / shape[1], title, ha="center", va="center", fontsize=10)
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
    plt.close(figure)


def _strip(images: np.ndarray, columns: int) -> np.ndarray:
    """Images side by side with a white line between: (height, columns (width + 1) - 1[, 3])."""
    _, height, width, channels = images.shape
    strip = np.ones((height, columns * (width + 1) - 1, channels))
    for index, image in enumerate(np.clip((images + 1) / 2, 0, 1)):
        start = index * (width + 1)
        strip[:, start : start + width] = image
    return strip[..., 0] if channels == 1 else strip
