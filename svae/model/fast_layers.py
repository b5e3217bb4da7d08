"""Exact rewrites of layers whose plain TensorFlow form is slow on a CPU.

Each computes the same function, and thus the same gradients, from the same weights as the Keras
layer that holds them. They use standard operations, which run on every device.

With Keras' own batch norm a training step takes 1.26 times the CPU time, with its own transposed
convolution 1.04 times (low_rank, 64x64x3, batch 100, 2 cores): `python benchmarks/own_parts.py`.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

# oneDNN's batch norm works on registers of 16 channels.
_FUSED_CHANNELS = 16


def transposed_convolution(layer: keras.layers.Conv2DTranspose, x: tf.Tensor) -> tf.Tensor:
    """Return `layer`(x): (batch, n, n, c) -> (batch, m, m, f). `layer` is built, without bias.

    A 5x5 kernel of stride 2, SAME, with few filters (fewer than inputs) is rewritten. It computes

        y[2 o + k - 1] += x[o] w[k],   k = 0 .. 4, in each direction,

    so that output 2 m + i, i = 0 or 1, uses the inputs m - 1, m, m + 1 through k = i + 3 - 2 t with
    t = 0, 1, 2 (no tap if k is -1). This is a 3x3 convolution of stride 1 to 4 f channels, one
    group of f for each (i, j), and the groups are then arranged in squares of 2x2 pixels (Shi et
    al. 2016, "Is the deconvolution layer the same as a convolutional layer?", arXiv 1609.07009).
    """
    # With as many filters as inputs, 36 taps instead of 25 cost more than the smaller images save.
    rewritten = layer.filters < x.shape[3] / 4
    if (
        layer.kernel_size + layer.strides != (5, 5, 2, 2)
        or layer.padding != "same"
        or not rewritten
    ):
        return layer(x)
    x = tf.cast(x, layer.compute_dtype)
    kernel = _subpixel_kernel(tf.cast(layer.kernel, layer.compute_dtype))
    y = tf.nn.conv2d(x, kernel, 1, "SAME")
    _, height, width, filters = y.shape
    # (batch, m, n, i, (j, f)) -> (batch, m, i, n, (j, f)); like depth_to_space, which is slower.
    y = tf.transpose(tf.reshape(y, [-1, height, width, 2, filters // 2]), [0, 1, 3, 2, 4])
    return tf.reshape(y, [-1, 2 * height, 2 * width, filters // 4])


def _subpixel_kernel(kernel: tf.Tensor) -> tf.Tensor:
    """(5, 5, f, c) -> (3, 3, c, 4 f), taps (t, u), channels (i, j, f)."""
    filters, inputs = kernel.shape[2:]
    # From k = -1, 0 .. 4 to 4, 3 | 2, 1 | 0, -1: one pair per t, with i = 1 first.
    kernel = tf.reverse(tf.pad(kernel, [[1, 0], [1, 0], [0, 0], [0, 0]]), [0, 1])
    kernel = tf.reverse(tf.reshape(kernel, [3, 2, 3, 2, filters, inputs]), [1, 3])
    kernel = tf.transpose(kernel, [0, 2, 5, 1, 3, 4])
    return tf.reshape(kernel, [3, 3, inputs, 4 * filters])


def batch_norm(layer: keras.layers.BatchNormalization, x: tf.Tensor) -> tf.Tensor:
    """Return `layer`(x, training=True): x (batch, height, width, c) normalised by its statistics.

    Updates the moving statistics of `layer`, which must be built. Statistics have the type of its
    weights, float32 under every mixed-precision policy; the result has the type of x.
    """
    fused = x.shape[3] % _FUSED_CHANNELS == 0
    y, mean, variance = (_fused if fused else _by_rows)(
        x, layer.gamma.value, layer.beta.value, layer.epsilon
    )
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        value = tf.cast(tf.stop_gradient(value), moving.dtype)
        moving.assign(moving * layer.momentum + value * (1.0 - layer.momentum))
    return y


def _fused(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """y, mean and variance, with one operation for each of the forward and backward passes."""
    y, mean, variance = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    # The operation returns the unbiased variance: n / (n - 1) times that of x.
    n = tf.cast(tf.size(x) // x.shape[3], variance.dtype)
    return y, mean, variance * ((n - 1.0) / n)


def _by_rows(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """y, mean and variance for few channels.

    Entire rows of `width` pixels are treated as channels, so that sums and products access memory
    contiguously; the results for the pixels of a row are then combined.

    With n values per channel, mean m, variance v and h = (x - m) / sqrt(v + epsilon):

        y       = gamma h + beta
        dL/dx   = gamma / sqrt(v + epsilon) (dy - mean(dy) - h mean(dy h)),   dy = dL/dy
        dL/dgamma = n mean(dy h),   dL/dbeta = n mean(dy)

    (Ioffe and Szegedy 2015, arXiv 1502.03167, section 3).
    """
    shape, input_type, statistics_type = tf.shape(x), x.dtype, gamma.dtype
    width, channels = x.shape[2:]

    def rows(values: tf.Tensor) -> tf.Tensor:
        return tf.reshape(tf.cast(values, statistics_type), [-1, width * channels])

    def mean_of(values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_mean(tf.reshape(tf.reduce_mean(values, 0), [width, channels]), 0)

    def tile(values: tf.Tensor) -> tf.Tensor:
        return tf.tile(values, [width])

    @tf.custom_gradient
    def normalise(
        x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, ...], Callable[..., tuple[tf.Tensor, ...]]]:
        x = rows(x)
        mean = mean_of(x)
        variance = mean_of(tf.math.squared_difference(x, tile(mean)))
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        y = x * tile(scale) + tile(beta - mean * scale)

        def gradient(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, ...]:
            dy = rows(dy)
            mean_dy = mean_of(dy)
            mean_dy_h = (mean_of(dy * x) - mean * mean_dy) * inverse
            slope = -scale * inverse * mean_dy_h
            dx = dy * tile(scale) + (x * tile(slope) - tile(scale * mean_dy + slope * mean))
            n = tf.cast(tf.reduce_prod(shape[:3]), statistics_type)
            return tf.cast(tf.reshape(dx, shape), input_type), n * mean_dy_h, n * mean_dy

        return (tf.cast(tf.reshape(y, shape), input_type), mean, variance), gradient

    return normalise(x, gamma, beta)
