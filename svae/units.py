"""Units of log-likelihoods: nats per image, for a density of pixels on [-1, 1], and bits."""

import math

PIXEL_RANGE = (-1.0, 1.0)


def bits_per_dim(log_likelihood: float, dimension: int) -> float:
    """Bits per dimension, on the scale of byte values, of a density of pixels on [-1, 1].

    -LL / (D ln 2) + log2(127.5), for LL in nats per image. Not comparable with the likelihood of a
    discrete distribution over bytes.
    """
    return -log_likelihood / (dimension * math.log(2)) + math.log2(127.5)
