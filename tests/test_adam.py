"""Adam with one operation per variable, compared with Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from svae.training.adam import Adam

SHAPES = [(3, 2), (4,), ()]


def trained(optimizer, steps=5, compiled=True):
    """The variables and the optimizer's, after some steps along random gradients."""
    rng = np.random.default_rng(0)
    variables = [keras.Variable(rng.normal(size=shape).astype("float32")) for shape in SHAPES]
    optimizer.build(variables)

    def step(*gradients):
        optimizer.apply(list(gradients), variables)

    step = tf.function(step) if compiled else step
    for _ in range(steps):
        step(*(tf.constant(rng.normal(size=shape), tf.float32) for shape in SHAPES))
    return [np.asarray(v) for v in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1e-2, "epsilon": 1e-8},
        {"learning_rate": 1e-2, "epsilon": 0.1, "beta_1": 0.5, "beta_2": 0.9},
        {"learning_rate": 1e-2, "global_clipnorm": 0.1},
        {"learning_rate": keras.optimizers.schedules.CosineDecay(1e-2, 4)},
    ],
)
def test_equals_keras(settings, compiled):
    found = trained(Adam(**settings), compiled=compiled)
    expected = trained(keras.optimizers.Adam(**settings), compiled=compiled)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_scales_the_loss_like_keras():
    scaled = trained(keras.optimizers.LossScaleOptimizer(Adam(1e-2), initial_scale=4.0))
    expected = trained(
        keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-2), initial_scale=4.0)
    )
    for a, b in zip(scaled, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
