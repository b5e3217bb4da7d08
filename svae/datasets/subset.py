"""Random images of a split of any size."""

import h5py
import numpy as np


def subset(images: np.ndarray | h5py.Dataset, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` of the images (n, ...), drawn without replacement, in their stored order."""
    if count == images.shape[0]:
        return images[:]
    chosen = np.empty((count, *images.shape[1:]), images.dtype)
    rows = np.sort(rng.choice(images.shape[0], count, replace=False))
    # One by one: h5py selects many rows at once slowly, and takes memory for every chunk.
    for place, row in enumerate(rows.tolist()):
        chosen[place] = images[row]
    return chosen
