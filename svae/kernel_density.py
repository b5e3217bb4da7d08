"""The logarithm of a Gaussian kernel density of samples, at the cost of a float32 matrix product.

    log p(x) = log 1/m sum_j N(x; s_j, sigma^2 I)

needs the squared distance d^2 = |x|^2 + |s|^2 - 2 x.s of every image to every sample. The products
x.s are twice as fast in float32 as in float64, but their rounding is worth tenths of a nat at
sigma = 0.1. It is bounded, and made good where it matters:

* An error of d^2 is an error of d^2 / (2 sigma^2) in the logarithm of that kernel, and counts in
  log p(x) by the kernel's share of the sum. Where it matters, sigma is small, and a few near samples
  have nearly all of the sum: their distances are computed again from the differences x - s.
* Where that does not suffice (a cluster of samples at equal distances), all distances of the image
  to this block of samples are computed again, in float64, and if need be from differences.

So log p(x) is within a tolerance whatever the samples are, as long as the bound on the rounding of
a float32 product holds. It is probabilistic (Higham, Mary 2019, SIAM Journal on Scientific Computing
41, A2815): with u the unit roundoff, the error of a product of length k is at most
lambda sqrt(k) u |x||s|. A distance computed again is checked against it, so that an image whose
products are worse, on whatever device, goes to float64 as well.

TensorFlow multiplies, on a GPU where there is one; differences are numpy's, on the CPU.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from svae.errors import UserError

BLOCK = 5000  # samples held at a time
TILE = 1000  # images held at a time
TOLERANCE = 0.004  # nats an image

# Columns of one product. Products of pieces are summed in float64, since rounding grows with the
# length.
COLUMNS = 6144
# lambda of the bound. If x and s are parallel and terms are added one by one, which is the worst, the
# standard deviation of the error is a quarter of sqrt(k) u |x||s|; a library's blocks do far better.
LAMBDA = 1.5
STRIP = 32  # rows that stay in the cache from one operation to the next
ALIGNMENT = 64  # bytes, of TensorFlow's memory
# The most distances to a block of samples that are computed again for one image.
CANDIDATES = 16

# Each way to compute distances, and the one for images for which it is not exact enough.
EXACTER = {tf.float32: tf.float64, tf.float64: None}
UNIT_ROUNDOFF = {tf.float32: 2.0**-24, tf.float64: 2.0**-53}


def log_likelihoods(
    images: np.ndarray,
    samples: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    block: int = BLOCK,
    tolerance: float = TOLERANCE,
) -> np.ndarray:
    """log 1/m sum_j N(x_i; s_j, sigma_k^2 I) for every sigma, from one pass over the distances.

    images: (n, ...), flattened to D values each, float, or uint8 for pixels x = image / 127.5 - 1;
    samples: float (m, ...) of the same trailing shape. Both may be anything that has `shape` and
    `dtype` and can be sliced `[a:b]`, such as an h5py dataset. Samples are read once, images once
    per block of samples.
    sigmas: (n_sigmas,), in pixel units.
    block: the most samples held at a time; of images, TILE at most.
    tolerance: the most nats by which rounding may move a value. Where images or samples are float64,
    all is.

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
    tile = min(block, TILE)

    # Logarithms of the sums over the samples so far: of the kernels, and of the most by which
    # rounding may have moved them. `_log_kernels` keeps the second below expm1(tolerance) times
    # the first.
    log_mass = np.full((sigmas.size, n), -np.inf)
    log_doubt = log_mass.copy()
    with _full_float32():
        for a in range(0, m, block):
            held = _Samples(_rows(samples, a, a + block), a)
            for b in range(0, n, tile):
                part = slice(b, b + tile)
                x = _rows(images, b, b + tile)
                _check_finite(x, b, "images")
                so_far = log_mass[:, part], log_doubt[:, part]
                mass, doubt = _log_kernels(
                    x, held, rates, *so_far, tolerance, tf.float64 if wide else tf.float32
                )
                np.logaddexp(so_far[0], mass, out=so_far[0])
                np.logaddexp(so_far[1], doubt, out=so_far[1])
    log_norm = math.log(m) + 0.5 * dimension * np.log(2 * np.pi * sigmas**2)
    return log_mass - log_norm[:, None]


class _Samples:
    """A block of samples.

    Attributes:
        raw: float32 or float64 (m, D), as read.
        centre: float32 (D,), about their mean. Distances do not change with a common centre, but
            the rounding of x.s grows with |x||s|.
    """

    def __init__(self, raw: np.ndarray, start: int):
        _check_finite(raw, start, "samples")
        self.raw = raw
        self.centre = raw[:: -(-len(raw) // 256)].mean(axis=0, dtype=np.float64).astype(np.float32)
        self._cut: dict[tf.DType, tuple[list[tf.Tensor], tf.Tensor]] = {}

    def cut(self, dtype: tf.DType) -> tuple[list[tf.Tensor], tf.Tensor]:
        """-2 (s - centre) in pieces, and |s - centre|^2; see `_cut`."""
        if dtype not in self._cut:
            self._cut[dtype] = _cut(self.raw, self.centre, dtype, factor=-2)
        return self._cut[dtype]


def _cut(
    raw: np.ndarray, centre: np.ndarray, dtype: tf.DType, factor: int = 1
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """`factor` y for y = raw - centre of type `dtype`, in C pieces (n, <= COLUMNS); and the squared
    norms |y|^2 of each piece: float64 (C, n).
    """
    n, dimension = raw.shape
    starts = range(0, dimension, COLUMNS)
    pieces = [_aligned((n, min(COLUMNS, dimension - a)), dtype) for a in starts]
    squares = np.empty((len(pieces), n))

    def fill(rows: slice) -> None:
        for number, (start, piece) in enumerate(zip(starts, pieces, strict=True)):
            columns = slice(start, start + COLUMNS)
            y = piece[rows]
            np.subtract(_scaled(raw[rows, columns]), centre[columns], out=y, dtype=y.dtype)
            wide = y.astype(np.float64, copy=False)
            squares[number, rows] = np.einsum("ij,ij->i", wide, wide)
            if factor != 1:
                y *= factor

    _in_strips(fill, n)
    return [_tensor(piece) for piece in pieces], tf.constant(squares)


def _aligned(shape: tuple[int, int], dtype: tf.DType) -> np.ndarray:
    """An array, not yet filled, whose memory TensorFlow can use as it is."""
    memory = np.empty(math.prod(shape) * dtype.size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : len(memory) - ALIGNMENT + start].view(dtype.as_numpy_dtype).reshape(shape)


def _tensor(array: np.ndarray) -> tf.Tensor:
    """The same memory as a tensor (tf.constant copies), or on the GPU where there is one."""
    return tf.raw_ops.Identity(input=tf.experimental.dlpack.from_dlpack(array.__dlpack__()))


def _squared_distances(
    x: np.ndarray, samples: _Samples, dtype: tf.DType
) -> tuple[tf.Tensor, np.ndarray]:
    """|x_i - s_j|^2, float64 (n, m), by products of type `dtype`; and the bound on the error of the
    distances of each image, float64 (n,).
    """
    x_pieces, x_squares = _cut(x, samples.centre, dtype)
    s_pieces, s_squares = samples.cut(dtype)
    x2, s2 = tf.reduce_sum(x_squares, axis=0), tf.reduce_sum(s_squares, axis=0)
    d2 = x2[:, None] + s2
    for x_piece, s_piece in zip(x_pieces, s_pieces, strict=True):
        d2 += tf.cast(tf.matmul(x_piece, s_piece, transpose_b=True), tf.float64)

    # Errors of different pieces are independent; the roundings of x and s to dtype may not be.
    # In float64 the worst case, all errors of one sign, is small enough.
    s2_max, furthest = tf.reduce_max(s2).numpy(), tf.reduce_max(s_squares, axis=1)
    length = min(COLUMNS, x.shape[1])
    growth = length if dtype == tf.float64 else LAMBDA * math.sqrt(length)
    summing = growth * np.sqrt(tf.linalg.matvec(x_squares, furthest, transpose_a=True))
    casting = (np.sqrt(x2) + math.sqrt(s2_max)) ** 2
    squaring = x.shape[1] * (x2.numpy() + s2_max)
    bound = 2 * UNIT_ROUNDOFF[dtype] * (summing + casting) + UNIT_ROUNDOFF[tf.float64] * squaring
    return d2, bound


def _log_kernels(
    x: np.ndarray,
    samples: _Samples,
    rates: np.ndarray,
    log_mass: np.ndarray,
    log_doubt: np.ndarray,
    tolerance: float,
    dtype: tf.DType | None,
) -> tuple[np.ndarray, np.ndarray]:
    """log sum_j exp(-rate |x_i - s_j|^2) over a block of samples, and the logarithm of the most by
    which rounding may have moved that sum: each (n_sigmas, n).

    x: (n, D) as read. log_mass, log_doubt: the same two of all samples before. Together with them
    the doubt of each image stays below expm1(tolerance) times its mass, which is to say that
    rounding moves log p(x) by at most the tolerance.
    dtype: of the products; None: no products, but differences.
    """
    if dtype is None:
        every = np.broadcast_to(np.arange(len(samples.raw)), (len(x), len(samples.raw)))
        d2 = _differences(x, samples.raw, every, np.ones(every.shape, bool))
        mass = np.logaddexp.reduce(-rates[:, None, None] * d2, axis=2)
        return mass, np.full(mass.shape, -np.inf)

    d2, bound = _squared_distances(x, samples, dtype)
    error = rates[:, None] * bound  # of the logarithm of a kernel, (n_sigmas, n)
    harmless = (error <= tolerance).all(axis=0)
    n_near = 0 if harmless.all() else min(CANDIDATES, len(samples.raw) - 1)
    near, index, log_rest = _split(d2, n_near, rates, dtype)

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
        exact = _differences(x, samples.raw, index, again)
        failed = ~enough.any(axis=1) | (np.abs(exact - near) > bound[:, None]).any(axis=1)
        kernels[..., :-1] = -rates[:, None, None] * np.where(again, exact, near)
        mass = np.logaddexp.reduce(kernels, axis=2)
        doubt = np.take_along_axis(tails, count[None, :, None], axis=2)[..., 0] + log_expm1
        total = np.logaddexp(log_mass, mass)
        failed |= (np.exp(doubt - total) + np.exp(log_doubt - total) > np.expm1(tolerance)).any(0)
    if failed.any():
        mass[:, failed], doubt[:, failed] = _log_kernels(
            x[failed],
            samples,
            rates,
            log_mass[:, failed],
            log_doubt[:, failed],
            tolerance,
            EXACTER[dtype],
        )
    return mass, doubt


def _split(
    d2: tf.Tensor, n_near: int, rates: np.ndarray, dtype: tf.DType
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest samples of each image, and the kernels of all others.

    Returns the smallest distances in ascending order and whose they are, each (n, n_near); and the
    logarithm of the sum of the other kernels, (n_sigmas, n).
    """
    nearest = tf.reduce_min(d2, axis=1)
    # Relative to the largest kernel, so that float32 tells all that have weight apart.
    z = tf.cast(nearest[:, None] - d2, dtype)
    near = np.empty((d2.shape[0], 0))
    index = near.astype(int)
    if n_near:
        values, places = tf.math.top_k(z, n_near + 1)
        near = tf.gather(d2, places, batch_dims=1).numpy()
        index = places[:, :-1].numpy()
        # Ties with the first that is not among the nearest are among the others.
        near = np.where(values[:, :-1] > values[:, -1:], near[:, :-1], np.inf)
        z = tf.where(z <= values[:, -1:], z, tf.constant(-np.inf, dtype))
    log_sums = []
    for rate in np.minimum(rates, dtype.max):
        rate = tf.constant(rate, dtype)
        total = tf.reduce_sum(tf.exp(rate * z), axis=1)
        log_sums.append(tf.math.log(tf.cast(total, tf.float64)))
    log_rest = tf.stack(log_sums) - rates[:, None] * nearest
    return near, index, log_rest.numpy()


def _differences(x: np.ndarray, s: np.ndarray, index: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """|x_i - s_j|^2 for j = index[i, k] where wanted[i, k], else NaN: float64, as index (n, k)."""
    d2 = np.full(index.shape, np.nan)

    def fill(pairs: slice) -> None:
        for i, k in zip(images[pairs], places[pairs], strict=True):
            difference = _scaled(x[i]).astype(np.float64)
            difference -= s[index[i, k]]
            d2[i, k] = np.square(difference, out=difference).sum()

    images, places = np.nonzero(wanted)
    _in_strips(fill, len(images))
    return d2


def _in_strips(action: Callable[[slice], None], n: int) -> None:
    """Do it to 0 .. n, STRIP at a time, by as many threads as TensorFlow has."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    strips = [slice(start, start + STRIP) for start in range(0, n, STRIP)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(action, strips))  # raises what an action raises


def _rows(array: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Rows start .. stop, flattened: uint8, float32 or float64 (rows, D)."""
    rows = np.asarray(array[start:stop])
    if rows.dtype != np.uint8:
        rows = rows.astype(np.float32 if rows.itemsize <= 4 else np.float64, copy=False)
    return rows.reshape(len(rows), math.prod(array.shape[1:]))


def _scaled(x: np.ndarray) -> np.ndarray:
    """Pixels on [-1, 1]: bytes as float32, others as they are."""
    return x.astype(np.float32) / np.float32(127.5) - np.float32(1) if x.dtype == np.uint8 else x


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Without TensorFloat-32, in which GPUs round the factors of float32 products to 11 bits."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _check_pixels(array: np.ndarray, name: str, bytes_too: bool = False) -> None:
    if not array.shape[0]:
        raise UserError(f"{name}: there are none to score with; at least one is needed")
    if not np.issubdtype(array.dtype, np.floating) and not (bytes_too and array.dtype == np.uint8):
        raise UserError(
            f"{name}: pixels of type {array.dtype}; pass floats on [-1, 1] (bytes / 127.5 - 1)"
        )


def _check_finite(rows: np.ndarray, start: int, name: str) -> None:
    """UserError for the first row with a value that is not; `start`: the number of the first."""
    if rows.dtype == np.uint8 or np.isfinite(rows.sum(axis=1)).all():
        return
    first = start + int(np.argmin(np.isfinite(rows).all(axis=1)))
    raise UserError(
        f"{name}: number {first} has pixels that are NaN or infinite; "
        f"the training may have diverged, or the file is damaged: make it again"
    )
