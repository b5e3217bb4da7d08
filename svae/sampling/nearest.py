"""The reference image nearest to each image: Euclidean distances of pixels on [-1, 1]."""

import math
from typing import TypeAlias

import h5py
import numpy as np
from threadpoolctl import threadpool_limits

from svae.errors import UserError
from svae.pixels import scale

Images: TypeAlias = np.ndarray | h5py.Dataset
"""(n, height, width, channel): uint8, or floats on [-1, 1]; read slice by slice."""

# Most images and references that are compared at once, and most bytes of the images in float32.
_QUERIES, _REFERENCES, _BYTES = 2000, 1000, 1 << 28


def nearest(images: Images, references: Images, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The nearest reference of each image: its number, int64 (n,), and distance, float64 (n,).

    Both are read in blocks, the references once for every 2,000 images, or for fewer if these
    are larger than 64x64x3. Float32 matrix products find the nearest one; they do not distinguish
    references whose squared distances differ by about 1e-6 |x|^2. Its distance is then computed
    from the pixels in float64: a copy has distance 0, and equal references have equal distances.
    threads: for the matrix products.

    UserError if there are no images or references, if their shapes differ, or if a pixel is not
    finite.
    """
    for name, array in (("images", images), ("references", references)):
        if not array.shape[0]:
            raise UserError(f"nearest images: there are no {name} to compare; give at least one")
    if images.shape[1:] != references.shape[1:]:
        raise UserError(
            f"nearest images: images of the shape {images.shape[1:]} cannot be compared with those "
            f"of {references.shape[1:]}; draw samples from a model of this data set"
        )
    n, m = images.shape[0], references.shape[0]
    queries = max(1, min(_QUERIES, _BYTES // (4 * math.prod(images.shape[1:]))))
    at_once = min(_REFERENCES, queries)
    numbers, distances = np.empty(n, np.int64), np.empty(n)
    with threadpool_limits(limits=threads, user_api="blas"):
        for start in range(0, n, queries):
            x = _rows(images, start, start + queries)
            best, number = np.full(len(x), np.inf, np.float32), np.zeros(len(x), np.int64)
            for first in range(0, m, at_once):
                _update(x, _rows(references, first, first + at_once), first, best, number)
            rows = slice(start, start + len(x))
            numbers[rows] = number
            distances[rows] = [_distance(a, references, j) for a, j in zip(x, number, strict=True)]
    return numbers, distances


def _update(x: np.ndarray, r: np.ndarray, first: int, best: np.ndarray, number: np.ndarray) -> None:
    """Update the nearest references of x (n, D) by r (m, D), numbered from `first`, in place.

    best (n,): the smallest |r|^2 - 2 x r so far, which is the squared distance minus |x|^2;
    number (n,): that of the reference.
    """
    d2 = x @ r.T
    d2 *= -2.0
    d2 += np.einsum("ij,ij->i", r, r)
    nearest = d2.argmin(axis=1)
    smallest = d2[np.arange(len(x)), nearest]
    closer = smallest < best
    best[closer] = smallest[closer]
    number[closer] = first + nearest[closer]


def _distance(x: np.ndarray, references: Images, number: int | np.integer) -> float:
    """The distance between the row x (D,) and one reference."""
    difference = x.astype(np.float64) - _rows(references, number, number + 1)[0]
    return math.sqrt(difference @ difference)


def _rows(images: Images, start: int | np.integer, stop: int | np.integer) -> np.ndarray:
    """Images start .. stop as float32 rows on [-1, 1], (rows, D)."""
    rows = images[start:stop]
    x = scale(rows) if rows.dtype == np.uint8 else np.asarray(rows, np.float32)
    x = x.reshape(len(x), -1)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise UserError(
            f"nearest images: image {start + int(np.argmin(finite))} of a set has pixels that are "
            f"NaN or infinite; the training may have diverged, or the file is damaged: make it "
            f"again"
        )
    return x
