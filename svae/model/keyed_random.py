"""Random numbers that depend only on their key.

They are computed by plain arithmetic from integers of the Philox generator. Up to rounding, they
are the same on a CPU and a GPU, and with and without XLA. TensorFlow's own normal and uniform
numbers change when XLA compiles the function that draws them.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from svae.streams import Stream


def key(seed: int, stream: Stream, counter: tf.Tensor | int) -> tf.Tensor:
    """The key of one use of a stream, two int64.

    It depends only on its arguments: a resumed training has the same random numbers as one that
    was never interrupted.
    """
    counter = tf.cast(counter, tf.int64)  # 0 of another type would give another key
    return tf.random.experimental.stateless_fold_in(tf.constant([seed, int(stream)]), counter)


def _bits(shape: Sequence[int] | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """uint32, all values equally likely."""
    return tf.random.stateless_uniform(
        shape, key, minval=None, maxval=None, dtype=tf.uint32, alg="philox"
    )


def normal(shape: Sequence[int] | tf.Tensor, key: tf.Tensor) -> tf.Tensor:
    """float32 `shape`, iid N(0, 1), from a key of two integers.

    The Box-Muller transform: sqrt(-2 log u) cos(2 pi v) with u and v uniform on (0, 1), here
    multiples of 2^-24, which limits the values to +-5.8.
    """
    bits = tf.bitwise.right_shift(_bits(tf.concat([[2], shape], 0), key), tf.constant(9, tf.uint32))
    u, v = tf.unstack((tf.cast(bits, tf.float32) + 0.5) * 2.0**-23)
    return tf.sqrt(-2.0 * tf.math.log(u)) * tf.cos(2.0 * math.pi * v)


def dropout(x: tf.Tensor, rate: float, key: tf.Tensor) -> tf.Tensor:
    """Set each entry of x to 0 with probability `rate`, and divide the others by 1 - rate.

    The key determines which entries, whatever the type of x.
    """
    kept = _bits(tf.shape(x), key) >= tf.constant(round(rate * 2**32), tf.uint32)
    return tf.where(kept, x / (1.0 - rate), tf.zeros_like(x))
