"""All drawing. Takes arrays, writes pictures."""

from pathlib import Path

import matplotlib
import numpy as np

from svae.files import replacing

matplotlib.use("Agg")
import matplotlib.pyplot as plt

INCHES_PER_IMAGE = 0.75
LABEL_INCHES = 1.5
DPI = 200


def comparison(rows: dict[str, np.ndarray], title: str, target: Path | str) -> None:
    """The paper's figure: labelled rows of images, the first row set apart from the others.

    rows: label -> images in [-1, 1], float (columns, height, width, channel), one or three
    channels. Values are shown as they are, -1 black and 1 white: nothing is stretched.
    """
    columns = max(len(images) for images in rows.values())
    width = LABEL_INCHES + columns * INCHES_PER_IMAGE
    height = 0.4 + len(rows) * INCHES_PER_IMAGE
    figure, axes = plt.subplots(len(rows), 1, figsize=(width, height), squeeze=False)
    figure.subplots_adjust(
        left=LABEL_INCHES / width, right=0.995, top=1 - 0.35 / height, bottom=0.01, hspace=0.06
    )
    for axis, (label, images) in zip(axes[:, 0], rows.items(), strict=True):
        strip = _strip(images, columns)
        axis.imshow(strip, interpolation="nearest", vmin=0, vmax=1, cmap="gray")
        axis.set_axis_off()
        axis.text(-0.01, 0.5, label, transform=axis.transAxes, ha="right", va="center", fontsize=10)
    figure.text(0.5, 1 - 0.17 / height, title, ha="center", va="center", fontsize=10)
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
