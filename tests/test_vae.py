"""SpatialVAE: shapes, padding, its random numbers."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import SHAPE, make_images, make_model, step, to_x

from svae.model import keyed_random
from svae.streams import Stream
from svae.training.step import TrainingStep

VARIANTS = ["vanilla", "naive", "mvn", "low_rank"]
D = int(np.prod(SHAPE))


def black_frame(array, black):
    return np.pad(array, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=black)


def test_encode_and_decode_have_their_shapes():
    for posterior in VARIANTS:
        model = make_model(posterior=posterior)
        d = 1 if posterior == "vanilla" else 3
        found = model.encode(tf.constant(to_x(make_images(5))))
        assert found.mean.shape == (5, d, d, 4) and found.kl().shape == (5, 4)
        assert model.decode(tf.zeros((5, d, d, 4))).shape == (5, *SHAPE)


def test_padding_affects_only_the_networks():
    """28x28 with padding 2 against the same weights on 32x32 images with a black frame."""
    padded = make_model((28, 28, 1), padding=2)
    whole = make_model((32, 32, 1))
    for a, b in zip(padded.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert padded.dimension == 28 * 28
    images = make_images(8, (28, 28, 1))
    x = to_x(images)
    found, expected = padded.encode(x), whole.encode(black_frame(x, -1.0))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-5)
    z = tf.random.stateless_normal((8, 3, 3, 4), [1, 2])
    decoded = padded.decode(z)
    assert decoded.shape == (8, 28, 28, 1)
    np.testing.assert_array_equal(decoded, whole.decode(z)[:, 2:-2, 2:-2])
    assert padded(x).shape == (8, 28, 28, 1)

    # the sums of a training step are over the image's own pixels
    noise_key, dropout_key = (
        keyed_random.key(1, stream, 0) for stream in (Stream.TRAINING_LATENTS, Stream.DROPOUT)
    )
    posterior = whole.encode(black_frame(x, -1.0), batch_statistics=True, dropout_seed=dropout_key)
    z = posterior.sample(keyed_random.normal(posterior.mean.shape, noise_key))
    decoded = whole.decode(z, batch_statistics=True)
    errors = np.square(x - decoded.numpy()[:, 2:-2, 2:-2])
    found = step(TrainingStep(padded, 1, 0.3), tf.constant(images))
    assert found["sse"] == pytest.approx(errors.sum() / 8, rel=1e-4)


def test_the_weighted_objective_has_no_variance():
    model = make_model(kl_weight=7.0)
    assert model.decoder_variance() is None
    assert model.equivalent_weight() == 7.0
