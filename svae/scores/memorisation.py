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

import h5py
import numpy as np
from threadpoolctl import threadpool_limits

from svae.datasets.subset import subset
from svae.errors import UserError
from svae.pixels import scale
from svae.streams import Stream, generator

Images = np.ndarray | h5py.Dataset
"""(n, height, width, channel): uint8, or floats on [-1, 1]; read slice by slice."""

MOST_REFERENCE = 10_000
_QUERIES, _REFERENCES = 2000, 1000  # images that are compared at a time


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


def nearest(images: Images, references: Images, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The nearest reference of each image: its number, int64 (n,), and distance, float64 (n,).

    Both are read in blocks, the references once for every 2,000 images. The nearest is found by
    float32 matrix products, which take references for equally near whose squared distances differ
    by about 1e-6 of |x|^2; its distance is then computed in float64 from the pixels, so that a copy
    is at 0, and two equal references are at the same distance. threads: of the matrix product.

    UserError if there are no images or references, if their shapes differ, and for pixels that are
    not finite.
    """
    for name, array in (("images", images), ("references", references)):
        if not array.shape[0]:
            raise UserError(f"memorisation: there are no {name} to compare; give at least one")
    if images.shape[1:] != references.shape[1:]:
        raise UserError(
            f"memorisation: images of the shape {images.shape[1:]} cannot be compared with those "
            f"of {references.shape[1:]}; draw samples from a model of this data set"
        )
    n, m = images.shape[0], references.shape[0]
    numbers, distances = np.empty(n, np.int64), np.empty(n)
    with threadpool_limits(limits=threads, user_api="blas"):
        for start in range(0, n, _QUERIES):
            x = _rows(images, start, start + _QUERIES)
            best, number = np.full(len(x), np.inf, np.float32), np.zeros(len(x), np.int64)
            for first in range(0, m, _REFERENCES):
                _update(x, _rows(references, first, first + _REFERENCES), first, best, number)
            rows = slice(start, start + len(x))
            numbers[rows] = number
            distances[rows] = [_distance(a, references, j) for a, j in zip(x, number, strict=True)]
    return numbers, distances


def _update(x: np.ndarray, r: np.ndarray, first: int, best: np.ndarray, number: np.ndarray) -> None:
    """Take the references r (m, D), numbered from `first`, into account for x (n, D), in place.

    best (n,): the smallest |r|^2 - 2 x r so far, the squared distance but for |x|^2; number (n,):
    of that reference.
    """
    d2 = x @ r.T
    d2 *= -2.0
    d2 += np.einsum("ij,ij->i", r, r)
    nearest = d2.argmin(axis=1)
    smallest = d2[np.arange(len(x)), nearest]
    closer = smallest < best
    best[closer] = smallest[closer]
    number[closer] = first + nearest[closer]


def _distance(x: np.ndarray, references: Images, number: int) -> float:
    """Of the row x (D,) from one reference."""
    difference = x.astype(np.float64) - _rows(references, number, number + 1)[0]
    return math.sqrt(difference @ difference)


def _rows(images: Images, start: int, stop: int) -> np.ndarray:
    """Images start .. stop as float32 rows on [-1, 1], (rows, D)."""
    rows = images[start:stop]
    x = scale(rows) if rows.dtype == np.uint8 else np.asarray(rows, np.float32)
    x = x.reshape(len(x), -1)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise UserError(
            f"memorisation: image {start + int(np.argmin(finite))} of a set has pixels that are "
            f"NaN or infinite; the training may have diverged, or the file is damaged: make it "
            f"again"
        )
    return x
