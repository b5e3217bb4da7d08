"""The fixed rules behind splits that a data set does not bring itself."""

import hashlib
import unicodedata
from collections.abc import Mapping

import numpy as np

SEED = 170506821


def shuffled(count: int) -> np.ndarray:
    """A fixed permutation of range(count), shape (count,), independent of any seed of the user.

    It sorts raw PCG64 output, the one random stream that numpy promises never to change, so that
    the splits stay the same images in every version.
    """
    return np.argsort(np.random.PCG64(SEED).random_raw(count), kind="stable")


def by_name(name: str, fractions: Mapping[str, float]) -> str:
    """The split of the image of that name, which depends on nothing else.

    Args:
        name: of which the SHA-256 counts, taken as a uniform number. The two ways in which file
            systems write an accented letter count as one.
        fractions: share of each split, in a fixed order; they add up to 1.
    """
    digest = hashlib.sha256(unicodedata.normalize("NFC", name).encode()).digest()
    uniform = int.from_bytes(digest[:8], "big") / 2**64
    *splits, last = fractions
    bound = 0.0
    for split in splits:
        bound += fractions[split]
        if uniform < bound:
            return split
    return last
