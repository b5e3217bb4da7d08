"""The fixed shuffle behind splits that a data set does not bring itself."""

import numpy as np

SEED = 170506821


def shuffled(count: int) -> np.ndarray:
    """A fixed permutation of range(count), shape (count,), independent of any seed of the user.

    It sorts raw PCG64 output, the one random stream that numpy promises never to change, so that
    the splits stay the same images in every version.
    """
    return np.argsort(np.random.PCG64(SEED).random_raw(count), kind="stable")
