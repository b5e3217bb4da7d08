"""Squared distances of images to samples: fast ones with a bound on their error, and exact ones.

d^2 = |x|^2 + |s|^2 - 2 x.s takes one matrix product for all pairs. The bound on its rounding is
probabilistic (Higham, Mary 2019, SIAM Journal on Scientific Computing 41, A2815): with u the unit
roundoff, the error of a product x.s of length k is at most lambda sqrt(k) u |x||s|. Rounding errors
of one sign, as of images of a single colour, grow faster in theory; in practice libraries add up
in blocks, and even those stay within it.

TensorFlow multiplies, on a GPU where there is one; differences are numpy's, on the CPU. What both
gain over the differences of all pairs is given in svae.scores.kernel_density.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from svae.pixels import scale

# lambda of the bound. If x and s are parallel and terms are added one by one, the error's standard
# deviation is a quarter of sqrt(k) u |x||s|.
LAMBDA = 1.5
# Rows, and pairs of rows, that stay in the cache from one operation to the next.
STRIP, PAIRS = 16, 8
ALIGNMENT = 64  # bytes, of TensorFlow's memory

# The pixel of each byte.
PIXELS = scale(np.arange(256, dtype=np.uint8))

UNIT_ROUNDOFF = {tf.float32: 2.0**-24, tf.float64: 2.0**-53}


class Samples:
    """A block of samples.

    Attributes:
        raw: float32 or float64 (m, D), finite.
        centre: float32 (D,), about their mean. Distances do not change with a common centre, but
            the rounding of x.s grows with |x||s|.
    """

    def __init__(self, raw: np.ndarray):
        self.raw = raw
        self.centre = raw[:: -(-len(raw) // 256)].mean(axis=0, dtype=np.float64).astype(np.float32)
        self._centred: dict[tf.DType, tuple[tf.Tensor, np.ndarray]] = {}

    def centred(self, dtype: tf.DType) -> tuple[tf.Tensor, np.ndarray]:
        """2 (s - centre), (m, D) of type `dtype`, and |s - centre|^2, float64 (m,); made once."""
        if dtype not in self._centred:
            self._centred[dtype] = _centred(self.raw, self.centre, dtype, factor=2)
        return self._centred[dtype]


def by_products(
    x: np.ndarray, samples: Samples, dtype: tf.DType
) -> tuple[tf.Tensor, np.ndarray, np.ndarray]:
    """Squared distances by one product of type `dtype`, as |x_i - s_j|^2 = x2_i - closeness_ij.

    x: (n, D), float, or uint8 for pixels x / 127.5 - 1.

    Returns closeness = 2 x.s - |s|^2, (n, m) of type `dtype`; x2 = |x|^2, float64 (n,); and the
    bound on the error of the distances of each image, float64 (n,). FloatingPointError if values
    of x or of the samples are not finite.
    """
    centred, x2 = _centred(x, samples.centre, dtype)
    s, s2 = samples.centred(dtype)
    closeness = tf.matmul(centred, s, transpose_b=True) - tf.constant(s2, dtype)

    s2, length = s2.max(), x.shape[1]
    lengths = np.sqrt(x2 * s2)  # |x||s|
    # In float64 the worst case, all errors of one sign, is small enough.
    summing = (length if dtype == tf.float64 else LAMBDA * math.sqrt(length)) * lengths
    centring = (np.sqrt(x2) + math.sqrt(s2)) ** 2
    subtracting = lengths + s2
    squaring = length * (x2 + s2)
    bound = 2 * UNIT_ROUNDOFF[dtype] * (summing + centring + subtracting)
    bound += UNIT_ROUNDOFF[tf.float64] * squaring
    if not np.isfinite(bound).all():
        raise FloatingPointError("a squared distance is not finite")
    return closeness, x2, bound


def by_differences(
    x: np.ndarray, s: np.ndarray, index: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """|x_i - s_j|^2 for j = index[i, k] where wanted[i, k], else NaN: float64, as index (n, k).

    x: (n, D) as for `by_products`; s: float (m, D).
    """
    d2 = np.full(index.shape, np.nan)
    images, places = np.nonzero(wanted)

    def fill(pairs: slice) -> None:
        i, k = images[pairs], places[pairs]
        differences = np.subtract(s[index[i, k]], _scaled(x[i]), dtype=np.float64)
        d2[i, k] = np.einsum("ij,ij->i", differences, differences)

    _in_strips(fill, len(images), PAIRS)
    return d2


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Without TensorFloat-32, in which GPUs round the factors of float32 products to 11 bits."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _centred(
    raw: np.ndarray, centre: np.ndarray, dtype: tf.DType, factor: int = 1
) -> tuple[tf.Tensor, np.ndarray]:
    """`factor` y for y = raw - centre, (n, D) of type `dtype`, and |y|^2, float64 (n,)."""
    result = _aligned(raw.shape, dtype)
    squares = np.empty(len(raw))

    def fill(rows: slice) -> None:
        y = result[rows]
        with np.errstate(invalid="ignore"):  # by_products detects values that are not finite
            np.subtract(_scaled(raw[rows]), centre, out=y, dtype=y.dtype)
        wide = y.astype(np.float64, copy=False)
        squares[rows] = np.einsum("ij,ij->i", wide, wide)
        if factor != 1:
            y *= factor

    _in_strips(fill, len(raw), STRIP)
    return _tensor(result), squares


def _aligned(shape: tuple[int, int], dtype: tf.DType) -> np.ndarray:
    """An array, not yet filled, whose memory TensorFlow can use as it is."""
    memory = np.empty(math.prod(shape) * dtype.size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : len(memory) - ALIGNMENT + start].view(dtype.as_numpy_dtype).reshape(shape)


def _tensor(array: np.ndarray) -> tf.Tensor:
    """The same memory as a tensor (tf.constant copies), or its copy on a GPU where there is one."""
    return tf.raw_ops.Identity(input=tf.experimental.dlpack.from_dlpack(array.__dlpack__()))


def _scaled(x: np.ndarray) -> np.ndarray:
    """Pixels on [-1, 1]: bytes as float32, others as they are."""
    return np.take(PIXELS, x) if x.dtype == np.uint8 else x


def _in_strips(action: Callable[[slice], None], n: int, strip: int) -> None:
    """Call `action` for slices of 0 .. n of length `strip`, in TensorFlow's number of threads."""
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    strips = [slice(start, start + strip) for start in range(0, n, strip)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(action, strips))  # raises what an action raises
