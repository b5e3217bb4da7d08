"""Bytes of decoded images."""

import numpy as np


def to_bytes(images: np.ndarray) -> np.ndarray:
    """Images of floats in [-1, 1], of any shape, to uint8: the nearest byte u of u / 127.5 - 1.

    The inverse of svae.datasets.store.scale. What lies outside is cut: -1 is black and 1 white.
    """
    return np.rint(127.5 * (np.clip(images, -1, 1) + 1)).astype(np.uint8)
