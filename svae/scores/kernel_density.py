"""The logarithm of a Gaussian kernel density of samples, at the cost of a float32 matrix product.

    log p(x) = log 1/m sum_j N(x; s_j, sigma^2 I)

needs the squared distance d^2 of every image to every sample. By products they are twice as fast in
float32 as in float64, but rounding costs tenths of a nat at sigma = 0.1. It is bounded
(`squared_distances`), and corrected where it matters:

* An error e of d^2 is an error of e / (2 sigma^2) in the logarithm of that kernel, which counts in
  log p(x) in proportion to the kernel's share of the sum. Where it matters, sigma is small, and a
  few samples have nearly all of the sum: their distances are recomputed from the differences x - s.
* Where that does not suffice (a cluster of samples at equal distances), all distances of the image
  to this block of samples are recomputed in float64, and from differences if necessary.

So log p(x) is within a tolerance for any samples, as long as the bound holds. Recomputed distances
are checked against it: an image whose products are worse, on any device, goes to float64 as well.

The protocol at 64x64x3 (10,000 samples, 1,000 validation images with 10 sigmas, 10,000 test images)
takes 1.24 times its bare matrix product, 21 s on 2 cores. The differences of all pairs would take
297 times as long, scikit-learn's KernelDensity 81 times; the largest error was 7e-7 nats:
`python benchmarks/parzen.py --rounds 5`.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from svae.errors import UserError
from svae.scores.squared_distances import Samples, by_differences, by_products, full_float32

# Most samples held at a time, half of the usual 10,000, and most bytes of them in float32: fewer if
# they have more than 26,843 pixel values, as 128x128x3 has.
BLOCK, BLOCK_BYTES = 5000, 1 << 29
TILE = 2000  # images held at a time
AGAIN = 500  # of these, whose distances are computed in a more exact type at a time
TOLERANCE = 0.004  # nats an image
# The most distances to a block of samples that are computed again for one image.
CANDIDATES = 16

# Each type of products, and what is used for images for which it is not exact enough.
EXACTER = {tf.float32: tf.float64, tf.float64: None}


def log_likelihoods(
    images: np.ndarray,
    samples: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    block: int | None = None,
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """log 1/m sum_j N(x_i; s_j, sigma_k^2 I) for every sigma, from one pass over the distances.

    images: (n, ...), flattened to D values each, float, or uint8 for pixels x = image / 127.5 - 1;
    samples: float (m, ...) of the same trailing shape. Both may be anything that has `shape` and
    `dtype` and can be sliced `[a:b]`, such as an h5py dataset. Samples are read once, images once
    per block of samples.
    sigmas: (n_sigmas,), in pixel units.
    block: the most samples held at a time, and images if that is less than TILE; None: BLOCK, or as
        many as have BLOCK_BYTES.
    tolerance: the most nats by which rounding may move a value. If images or samples are float64,
    so is everything.

    Returns float64 (n_sigmas, n), in nats per image. Raises UserError for no rows, integer pixels,
    unequal shapes, values that are not finite, and sigmas that are not positive.
    """
    sigmas = np.asarray(sigmas, dtype=np.float64)
    if sigmas.ndim != 1 or not sigmas.size or not (np.isfinite(sigmas) & (sigmas > 0)).all():
        raise UserError(f"parzen: sigmas must be one or more positive numbers, not {sigmas}")
    _check_pixels(images, "images", bytes_too=True)
    _check_pixels(samples, "samples")
    if images.shape[1:] != samples.shape[1:]:
        raise UserError(
            f"samples: each has the shape {samples.shape[1:]}, but the images they are scored on "
            f"have {images.shape[1:]}; draw samples from a model of this data set"
        )
    n, m = images.shape[0], samples.shape[0]
    dimension = math.prod(images.shape[1:])
    rates = 0.5 / sigmas**2
    wide = max(images.dtype.itemsize, samples.dtype.itemsize) > 4
    dtype = tf.float64 if wide else tf.float32
    block = block or max(1, min(BLOCK, BLOCK_BYTES // (4 * dimension)))
    tile = min(block, TILE)

    # Logarithms, over the samples so far, of the sum of the kernels, and of the most by which
    # rounding may have moved it.
    log_mass = np.full((sigmas.size, n), -np.inf)
    log_doubt = log_mass.copy()
    with full_float32():
        for a in range(0, m, block):
            held = None  # so that there is never more than one block
            held = Samples(_rows(samples, a, a + block))
            for b in range(0, n, tile):
                x = _rows(images, b, b + tile)
                so_far = log_mass[:, b : b + tile], log_doubt[:, b : b + tile]
                try:
                    more = _log_kernels(x, held, rates, *so_far, tolerance, dtype)
                except FloatingPointError:
                    _check_finite(held.raw, a, "samples")
                    _check_finite(x, b, "images")
                    raise
                for total, part in zip(so_far, more, strict=True):
                    np.logaddexp(total, part, out=total)
    log_norm = math.log(m) + 0.5 * dimension * np.log(2 * np.pi * sigmas**2)
    return log_mass - log_norm[:, None]


def _log_kernels(
    x: np.ndarray,
    samples: Samples,
    rates: np.ndarray,
    log_mass: np.ndarray,
    log_doubt: np.ndarray,
    tolerance: float,
    dtype: tf.DType | None,
) -> tuple[np.ndarray, np.ndarray]:
    """log sum_j exp(-rate |x_i - s_j|^2) over a block of samples, and the logarithm of the most by
    which rounding may have moved that sum: each (n_sigmas, n).

    x: (n, D) as read. log_mass, log_doubt: the same two of all samples before. Together with them
    the doubt of each image stays below expm1(tolerance) times its mass, so that rounding moves
    log p(x) by at most the tolerance.
    dtype: of the products; None: no products, but differences.
    """
    if dtype is None:
        every = np.broadcast_to(np.arange(len(samples.raw)), (len(x), len(samples.raw)))
        d2 = by_differences(x, samples.raw, every, np.ones(every.shape, bool))
        mass = np.logaddexp.reduce(-rates[:, None, None] * d2, axis=2)
        return mass, np.full(mass.shape, -np.inf)

    closeness, x2, bound = by_products(x, samples, dtype)
    error = rates[:, None] * bound  # of the logarithm of a kernel, (n_sigmas, n)
    harmless = (error <= tolerance).all(axis=0)
    n_near = 0 if harmless.all() else min(CANDIDATES, len(samples.raw) - 1)
    near, index, log_rest = _split(closeness, x2, n_near, rates)

    with np.errstate(all="ignore"):  # logarithms of 0, exponentials that overflow
        log_expm1 = error + np.log(-np.expm1(-error))
        kernels = np.concatenate([-rates[:, None, None] * near, log_rest[..., None]], axis=2)
        # Of all but the nearest 0, 1, 2 .. n_near samples: (n_sigmas, n, n_near + 1).
        tails = np.logaddexp.accumulate(kernels[..., ::-1], axis=2)[..., ::-1]
        total = np.logaddexp(log_mass, tails[..., 0])
        # Half of what is left: what is computed again may be less than it seemed, and the next
        # block of samples need not begin from nothing.
        allowed = 0.5 * (np.expm1(tolerance) - np.exp(log_doubt - total))
        enough = tails + log_expm1[..., None] - total[..., None] <= np.log(allowed)[..., None]
        enough = enough.all(axis=0)
        enough[:, 0] |= harmless
        count = np.argmax(enough, axis=1)  # distances to be computed again, (n,)

        again = np.arange(n_near) < count[:, None]
        exact = by_differences(x, samples.raw, index, again)
        failed = ~enough.any(axis=1) | (np.abs(exact - near) > bound[:, None]).any(axis=1)
        kernels[..., :-1] = -rates[:, None, None] * np.where(again, exact, near)
        mass = np.logaddexp.reduce(kernels, axis=2)
        doubt = np.take_along_axis(tails, count[None, :, None], axis=2)[..., 0] + log_expm1
        total = np.logaddexp(log_mass, mass)
        failed |= (np.exp(doubt - total) + np.exp(log_doubt - total) > np.expm1(tolerance)).any(0)
    failed = np.flatnonzero(failed)
    for start in range(0, len(failed), AGAIN):
        some = failed[start : start + AGAIN]
        so_far = log_mass[:, some], log_doubt[:, some]
        mass[:, some], doubt[:, some] = _log_kernels(
            x[some], samples, rates, *so_far, tolerance, EXACTER[dtype]
        )
    return mass, doubt


def _split(
    closeness: tf.Tensor, x2: np.ndarray, n_near: int, rates: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest samples of each image, and the kernels of all others.

    closeness, x2: as `by_products` gives them.

    Returns the smallest squared distances, ascending, and whose they are, each (n, n_near); and the
    logarithm of the sum of the other kernels, (n_sigmas, n).
    """
    n, dtype = len(x2), closeness.dtype
    near, index = np.empty((n, 0)), np.empty((n, 0), int)
    if n_near:
        values, places = tf.math.top_k(closeness, n_near + 1)
        index = places[:, :-1].numpy()
        # Ties with the first that is not among the nearest are among the others.
        first_other = values[:, -1:]
        near = x2[:, None] - tf.where(values > first_other, values, -np.inf).numpy()[:, :-1]
        closeness = tf.where(closeness > first_other, tf.constant(-np.inf, dtype), closeness)
    # Relative to the largest, so that none is too small to count.
    closest = tf.reduce_max(closeness, axis=1)
    closeness -= closest[:, None]
    log_sums = []
    for rate in np.minimum(rates, dtype.max):
        total = tf.reduce_sum(tf.exp(tf.constant(rate, dtype) * closeness), axis=1)
        log_sums.append(tf.math.log(tf.cast(total, tf.float64)).numpy())
    log_rest = np.stack(log_sums) - rates[:, None] * (x2 - closest.numpy())
    return near, index, log_rest


def _rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Rows start .. stop, flattened: uint8, float32 or float64 (rows, D)."""
    rows = np.asarray(array[start:stop])
    if rows.dtype != np.uint8:
        rows = rows.astype(np.float32 if rows.itemsize <= 4 else np.float64, copy=False)
    return rows.reshape(len(rows), math.prod(array.shape[1:]))


def _check_finite(rows: np.ndarray, start: int, name: str) -> None:
    """UserError for the first row that is not; `start` is the number of rows[0]."""
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise UserError(
            f"{name}: number {start + int(np.argmin(finite))} has pixels that are NaN or infinite; "
            f"the training may have diverged, or the file is damaged: make it again"
        )


def _check_pixels(array: np.ndarray, name: str, bytes_too: bool = False) -> None:
    if not array.shape[0]:
        raise UserError(f"{name}: there are none; the score needs at least one")
    if not np.issubdtype(array.dtype, np.floating) and not (bytes_too and array.dtype == np.uint8):
        raise UserError(
            f"{name}: pixels of type {array.dtype}; pass floats on [-1, 1] (bytes / 127.5 - 1)"
        )
