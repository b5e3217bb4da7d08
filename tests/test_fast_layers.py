"""The rewritten layers compared with the Keras layers whose weights they use."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from svae.model import fast_layers
from svae.model.networks import EPSILON, MOMENTUM


def random(*shape, seed=0, offset=0.0, dtype=tf.float32):
    values = np.random.default_rng(seed).normal(offset, 1.0, shape)
    return tf.constant(values, dtype)


def with_gradients(function, x, weights):
    """function(x), and the gradients of a random sum of it with respect to x and the weights."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
        total = tf.reduce_sum(y * random(*y.shape, seed=9, dtype=y.dtype))
    return [y, *tape.gradient(total, [x, *weights])]


def assert_near(found, expected, share):
    """Equal up to a fraction of the largest value."""
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=share * np.max(abs(b)))


def transposed(inputs, filters, kernel=5, strides=2, padding="same", dtype="float64"):
    layer = keras.layers.Conv2DTranspose(
        filters, kernel, strides=strides, padding=padding, use_bias=False, dtype=dtype
    )
    layer.build((None, None, None, inputs))
    return layer


class TestTransposedConvolution:
    @pytest.mark.parametrize("side", [1, 2, 3, 8])
    @pytest.mark.parametrize(
        ("inputs", "filters", "geometry"),
        [
            (16, 3, (5, 2, "same")),
            (32, 1, (5, 2, "same")),
            (5, 1, (5, 2, "same")),
            (8, 8, (5, 2, "same")),
            (16, 3, (3, 2, "same")),
            (16, 3, (3, 1, "valid")),
        ],
    )
    def test_equals_keras(self, side, inputs, filters, geometry):
        layer = transposed(inputs, filters, *geometry)
        x = random(2, side, side, inputs, dtype=tf.float64)
        weights = [layer.kernel.value]
        expected = with_gradients(layer, x, weights)
        found = with_gradients(lambda x: fast_layers.transposed_convolution(layer, x), x, weights)
        assert_near(found, expected, 1e-13)

    def test_few_filters_are_rewritten(self):
        """Otherwise the tests above would compare Keras with itself."""
        layer = transposed(16, 3)
        layer.call = None
        x = random(2, 4, 4, 16, dtype=tf.float64)
        assert fast_layers.transposed_convolution(layer, x).shape == (2, 8, 8, 3)

    def test_accepts_images_of_other_sides_and_any_batch(self):
        layer = transposed(16, 3)
        function = tf.function(
            lambda x: fast_layers.transposed_convolution(layer, x),
            input_signature=[tf.TensorSpec((None, 3, 4, 16), tf.float64)],
        )
        for count in (1, 3):
            x = random(count, 3, 4, 16, dtype=tf.float64)
            assert_near([function(x)], [layer(x)], 1e-13)

    def test_computes_in_the_type_of_the_layer(self):
        layer = transposed(16, 3, dtype="mixed_bfloat16")
        x = random(2, 4, 4, 16)
        found = fast_layers.transposed_convolution(layer, x)
        assert found.dtype == tf.bfloat16
        assert_near([tf.cast(found, tf.float32)], [tf.cast(layer(x), tf.float32)], 0.02)


def normaliser(channels, dtype="float32"):
    """Keras' layer, with weights and statistics unlike those of any initializer."""
    layer = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, dtype=dtype)
    layer.build((None, None, None, channels))
    rng = np.random.default_rng(5)
    layer.set_weights([rng.normal(size=channels) for _ in range(3)] + [rng.uniform(1, 2, channels)])
    return layer


def training_of(layer):
    return lambda x: layer(x, training=True)


CHANNELS = [1, 3, 16, 48, 64]


class TestBatchNorm:
    @pytest.mark.parametrize("offset", [0.0, 30.0])
    @pytest.mark.parametrize("channels", CHANNELS)
    def test_equals_keras_in_float64(self, channels, offset):
        """Value, all gradients, and the new moving statistics."""
        layer, exact = normaliser(channels), normaliser(channels, "float64")
        x = random(6, 8, 5, channels, offset=offset)
        found = with_gradients(
            lambda x: fast_layers.batch_norm(layer, x), x, [layer.gamma.value, layer.beta.value]
        )
        expected = with_gradients(
            training_of(exact), tf.cast(x, tf.float64), [exact.gamma.value, exact.beta.value]
        )
        assert found[0].dtype == tf.float32
        assert_near(found, expected, 1e-5 if offset == 0 else 1e-3)
        assert_near(layer.get_weights(), exact.get_weights(), 1e-5)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_rows_are_exact(self, channels):
        layer = normaliser(channels, "float64")
        other = normaliser(channels, "float64")
        x = random(6, 8, 5, channels, offset=3.0, dtype=tf.float64)
        found = with_gradients(
            lambda x: fast_layers.batch_norm(layer, x), x, [layer.gamma.value, layer.beta.value]
        )
        expected = with_gradients(training_of(other), x, [other.gamma.value, other.beta.value])
        assert_near(found, expected, 1e-12)
        assert_near(layer.get_weights(), other.get_weights(), 1e-13)

    @pytest.mark.parametrize("channels", [3, 16])
    def test_momentum_is_read_at_each_call(self, channels):
        """svae.model.batch_norm sets it to 0: the statistics of one batch stay in the layer."""
        layer = normaliser(channels)
        layer.momentum = 0.0
        x = random(6, 8, 5, channels, offset=2.0)
        fast_layers.batch_norm(layer, x)
        np.testing.assert_allclose(layer.moving_mean, np.mean(x, (0, 1, 2)), rtol=1e-5)
        np.testing.assert_allclose(layer.moving_variance, np.var(x, (0, 1, 2)), rtol=1e-5)

    @pytest.mark.parametrize("channels", [3, 16])
    @pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
    def test_half_precision_has_statistics_in_float32(self, channels, dtype):
        layer = normaliser(channels)
        layer.momentum = 0.0
        # Means of 4096 values of 40: their sum is beyond float16, and bfloat16 would stop counting.
        x = tf.cast(random(16, 16, 16, channels, offset=40.0), dtype)
        weights = [layer.gamma.value, layer.beta.value]
        y, *gradients = with_gradients(lambda x: fast_layers.batch_norm(layer, x), x, weights)
        assert y.dtype == dtype
        assert gradients[0].dtype == dtype
        exact = normaliser(channels, "float64")
        expected = exact(tf.cast(x, tf.float64), training=True)
        assert_near([y], [expected], 0.01)
        np.testing.assert_allclose(
            layer.moving_mean, np.mean(np.asarray(x, np.float64), (0, 1, 2)), rtol=1e-4
        )

    @pytest.mark.parametrize("channels", [3, 16])
    def test_accepts_any_batch(self, channels):
        layer, exact = normaliser(channels), normaliser(channels, "float64")
        function = tf.function(
            lambda x: fast_layers.batch_norm(layer, x),
            input_signature=[tf.TensorSpec((None, 4, 4, channels), tf.float32)],
        )
        for count in (1, 3):
            x = random(count, 4, 4, channels)
            assert_near([function(x)], [exact(tf.cast(x, tf.float64), training=True)], 1e-5)
