"""Fixed rules that split a data set published without a split."""

import hashlib
import unicodedata
from collections.abc import Mapping

import numpy as np

SEED = 170506821


def shuffled(count: int) -> np.ndarray:
    """Return a fixed permutation of range(count), shape (count,), independent of the user's seeds.

    It sorts raw PCG64 output, the only random stream that NumPy guarantees never to change, so that
    the splits contain the same images in every version.
    """
    return np.argsort(np.random.PCG64(SEED).random_raw(count), kind="stable")


def by_name(name: str, fractions: Mapping[str, float]) -> str:
    """Return the split of an image, which depends only on its name.

    Args:
        name: the first 64 bits of its SHA-256 serve as a uniform random number. The name is
            normalised to NFC first, because file systems encode accented letters in two ways.
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
