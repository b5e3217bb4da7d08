"""Pixels: bytes u in files, x = u / 127.5 - 1 on [-1, 1] in all computations; bits per dimension.

Imports no TensorFlow, but `to_x` also accepts its tensors.
"""

import math
from typing import Any

import numpy as np

HALF_RANGE = 127.5  # byte values per unit of x
PIXEL_RANGE = (-1.0, 1.0)  # of x


def to_x(values: Any) -> Any:
    """x = u / 127.5 - 1 for byte values u, an array or tensor of floats; x has the same type.

    u need not be whole numbers: uniform noise may have been added.
    """
    return values / HALF_RANGE - 1.0


def scale(images: np.ndarray) -> np.ndarray:
    """uint8 images of any shape -> x, float32."""
    return to_x(images.astype(np.float32))


def to_bytes(x: np.ndarray) -> np.ndarray:
    """Floats in [-1, 1], of any shape -> uint8, the nearest byte value. The inverse of `scale`.

    Values outside are clipped: -1 is black and 1 is white.
    """
    return np.rint(HALF_RANGE * (np.clip(x, -1, 1) + 1)).astype(np.uint8)


def bits_per_dim(log_likelihood: float, dimension: int) -> float:
    """Bits per dimension, on the scale of byte values, of a density of pixels on [-1, 1].

    -LL / (D ln 2) + log2(127.5), for LL in nats per image. If LL is an expectation over uniform
    noise that dequantises the bytes, or a lower bound of it, this is an upper bound of the code
    length of a discrete distribution over bytes (Theis, van den Oord, Bethge 2016). Without such
    noise it is not comparable with any code length.
    """
    return -log_likelihood / (dimension * math.log(2)) + math.log2(HALF_RANGE)
