"""Which images of a split a score is measured on, where it does not take all.

They are drawn at random, since a store may have its images sorted, by folder and thus by class. The
draw depends on the split and the number of images only, not on a run's seed: scores of different
variants, seeds and sanity rows are of the same images, so that they can be compared image by image.
"""

import numpy as np

from svae.datasets import SPLITS
from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.streams import Stream, generator

SEED = 0  # of every draw


def scored_images(store: Store, split: str, most: int) -> np.ndarray:
    """`most` images of the split, without replacement and in their stored order, or all if there
    are fewer: uint8 (n, height, width, channel)."""
    images = store.split(split)
    rng = generator(SEED, Stream.SCORED_IMAGES, SPLITS.index(split))
    return subset(images, min(most, len(images)), rng)
