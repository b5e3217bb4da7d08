"""Data-dependent initialization of the decoder's output layer (`initialization: data`).

The decoder ends in a batch norm and a tanh. The usual initialization of the batch norm, scale 1 and
shift 0, suits no data set. For photographs it makes the spread of the outputs twice as large as
needed, so that the outputs for rare images reach values where tanh has no gradient; for digits,
which are black and white, it makes the spread too small, and scale and shift take many steps to
grow. Here they start at the standard deviation and the mean of atanh(x) over the training images
(as in Salimans and Kingma 2016, "Weight Normalization", arXiv 1602.07868, section 3).
"""

import h5py
import numpy as np

from svae.model.vae import SpatialVAE
from svae.pixels import to_x

LIMIT = 2.0  # of |a| in the statistics: tanh(2) = 0.96. atanh is infinite at black and white.
LEAST_SPREAD = 0.1
_BLOCK = 256  # images


def start_outputs(model: SpatialVAE, images: np.ndarray | h5py.Dataset) -> None:
    """Set scale and shift of the decoder's last batch norm, channel by channel.

    images: uint8 (n, height, width, channel), read in blocks. Scale and shift become the standard
    deviation (at least 0.1) and the mean of atanh(x) over all pixels, clipped to [-2, 2].
    """
    counts = np.zeros((images.shape[3], 256), np.int64)
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        for channel, row in enumerate(counts):
            row += np.bincount(block[..., channel].ravel(), minlength=256)
    shares = counts / counts.sum(axis=1, keepdims=True)
    edge = np.tanh(LIMIT)
    a = np.arctanh(np.clip(to_x(np.arange(256.0)), -edge, edge))
    mean = shares @ a
    spread = np.sqrt(np.maximum(shares @ a**2 - mean**2, 0))
    last = model.decoder.blocks[-1].batch_norm
    last.gamma.assign(np.maximum(spread, LEAST_SPREAD).astype(np.float32))
    last.beta.assign(mean.astype(np.float32))
