"""Re-estimated batch-norm statistics compared with a forward pass in NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import make_images, make_model, to_x

from svae.model import batch_norm, keyed_random
from svae.streams import Stream


@pytest.fixture
def model():
    """A model with strong dropout, and weights and statistics unlike those of any initializer."""
    model = make_model(dropout=0.9)
    rng = np.random.default_rng(3)
    for norm in batch_norm.layers(model):
        n = norm.gamma.shape[0]
        values = [rng.uniform(0.5, 2, n), rng.normal(size=n), rng.normal(size=n), np.full(n, 9.0)]
        norm.set_weights(values)
    return model


def statistics_of(part, values):
    """[(mean, variance)] of each layer of an encoder or decoder, with its last values, in numpy."""
    found = []
    for block in part.blocks:
        y = block.convolution(tf.constant(values, tf.float32)).numpy().astype(np.float64)
        mean, variance = y.mean(axis=(0, 1, 2)), y.var(axis=(0, 1, 2))
        found.append((mean, variance))
        gamma, beta = block.batch_norm.gamma.numpy(), block.batch_norm.beta.numpy()
        y = gamma * (y - mean) / np.sqrt(variance + 1e-3) + beta
        values = np.where(y > 0, y, np.expm1(np.minimum(y, 0)))
    return found, values


def batch_statistics(model, images, index):
    encoder, features = statistics_of(model.encoder, to_x(images))
    outputs = features.reshape(len(images), -1) @ model.encoder.outputs.kernel.numpy()
    outputs += model.encoder.outputs.bias.numpy()
    mu, nu, log_omega, log_psi = np.split(outputs.reshape(-1, 12, 4), 4, axis=1)
    noise = keyed_random.normal(
        (len(images), 3, 3, 4), keyed_random.key(1, Stream.EVALUATION_LATENTS, index)
    )
    scale = np.exp(log_omega[:, :, None] / 2 + log_psi[:, None] / 2)
    decoder, _ = statistics_of(model.decoder, mu[:, :, None] * nu[:, None] + scale * noise)
    return encoder + decoder


@pytest.mark.parametrize("count", [1, 3])
def test_statistics_are_those_of_the_batches_pooled(model, count):
    batches = [make_images(6, seed=i) // (i + 1) for i in range(count)]
    expected = [batch_statistics(model, images, i) for i, images in enumerate(batches)]
    trained = [w.numpy() for w in model.trainable_variables]
    momenta = [norm.momentum for norm in batch_norm.layers(model)]
    batch_norm.reestimate(model, iter(batches))
    norms = batch_norm.layers(model)
    assert len(norms) == 3 + 4
    for norm, of_batches in zip(norms, zip(*expected, strict=True), strict=True):
        means, variances = np.array(of_batches).transpose(1, 0, 2)
        # equal batches: as if the layer saw all of them in one batch
        mean = means.mean(axis=0)
        variance = (variances + (means - mean) ** 2).mean(axis=0)
        np.testing.assert_allclose(norm.moving_mean, mean, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(norm.moving_variance, variance, rtol=1e-3)
    for before, after in zip(trained, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)
    assert [norm.momentum for norm in norms] == momenta


def test_moving_statistics_give_the_same_as_batch_statistics(model):
    images = make_images(6)
    batch_norm.reestimate(model, [images])
    statistics = [w.numpy() for w in model.non_trainable_variables]
    x = to_x(images)
    moving = model.encode(x)
    noise = keyed_random.normal((6, 3, 3, 4), keyed_random.key(1, Stream.EVALUATION_LATENTS, 0))
    z = moving.sample(noise)
    decoded = model.decode(z)
    for before, after in zip(statistics, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)
    of_batch = model.encode(x, batch_statistics=True)
    np.testing.assert_allclose(moving.mean, of_batch.mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(moving.variance, of_batch.variance, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(decoded, model.decode(z, batch_statistics=True), atol=1e-3)


def test_the_pass_is_repeatable_and_independent_of_earlier_statistics(model):
    batches = [make_images(6, seed=i) for i in range(2)]
    found = []
    for _ in range(2):
        batch_norm.reestimate(model, batches)
        found.append([w.numpy() for w in model.non_trainable_variables])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_statistics_of_means_apply_within_their_block_only(model):
    images = make_images(6)
    batch_norm.reestimate(model, [images])
    before = [w.numpy() for w in model.non_trainable_variables]
    loc = model.encode(to_x(images)).mean
    with batch_norm.statistics_of_means(model, [images]):
        found = model.decode(loc)
        inside = [w.numpy() for w in model.non_trainable_variables]
    for a, b in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(found, model.decode(loc, batch_statistics=True), atol=1e-3)
    assert any(np.max(abs(a - b)) > 0.01 for a, b in zip(before, inside, strict=True))
    kept = [norm.moving_mean.numpy() for norm in batch_norm.layers(model)]
    with pytest.raises(KeyError), batch_norm.statistics_of_means(model, [images]):
        raise KeyError
    for norm, mean in zip(batch_norm.layers(model), kept, strict=True):
        np.testing.assert_array_equal(norm.moving_mean, mean)
