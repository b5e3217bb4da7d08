"""Whether samples are copies of training images.

The share of samples that lie closer to a training image than to any of an equally large set of
held-out images, which the training has not seen. Samples that owe nothing to single training images
lie on either side as often, up to chance; copies always lie closer to the training set.

The distance to the nearest training image alone does not tell: it confuses blur with copying.
Blurred test images are nearer to the training set than the test images are, since blur takes away
the detail in which images differ; but they are nearer to the held-out set by as much, so that their
share stays where it was. The share of real test images stands beside that of the samples. It is a
half, but for chance, if the three splits are of one distribution: where it is not, as with splits
by person or place, the samples' share is to be read against it.

Distances are Euclidean, of pixels on [-1, 1].
"""

import math
from typing import Any

import numpy as np

from svae.datasets.subset import subset
from svae.sampling.nearest import Images, nearest
from svae.streams import Stream, generator

MOST_REFERENCE = 10_000


def shares(
    samples: Images, test: Images, train: Images, held_out: Images, seed: int, threads: int = 1
) -> dict[str, Any]:
    """The share of samples, and of test images, that lie closer to training than held-out images.

    train, held_out: of each as many are taken, at random: as many as the smaller has, at most
    10,000. A training set larger than that is judged by a part, which holds only as large a part of
    the originals of copies: `share_if_all_were_copies` is what samples would reach, in expectation,
    if each were a copy of a training image. An image that lies as close to both sets (a picture
    that is in both) counts as a half: it speaks for neither.

    Standard errors are binomial, over the images judged alone. Other reference images would move
    each share by more, but both alike: the difference of the two has the error that follows from
    theirs. UserError as `nearest`.
    """
    count = min(train.shape[0], held_out.shape[0], MOST_REFERENCE)
    references = [
        subset(train, count, generator(seed, Stream.MEMORISATION_TRAIN)),
        subset(held_out, count, generator(seed, Stream.MEMORISATION_HELD_OUT)),
    ]
    result: dict[str, Any] = {}
    for name, images in (("samples", samples), ("test_images", test)):
        to_train, to_held_out = (nearest(images, r, threads)[1] for r in references)
        share = float(np.mean((to_train < to_held_out) + 0.5 * (to_train == to_held_out)))
        result[f"share_of_{name}"] = share
        result[f"share_of_{name}_standard_error"] = math.sqrt(
            share * (1.0 - share) / images.shape[0]
        )
    return result | {
        "n_samples": samples.shape[0],
        "n_test": test.shape[0],
        "n_train": train.shape[0],
        "n_reference": count,
        "share_if_all_were_copies": 0.5 + 0.5 * count / train.shape[0],
        "seed": seed,
    }
