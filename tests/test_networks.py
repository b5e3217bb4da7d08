"""Encoder and decoder: shapes, the published layers, batch norm and dropout."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from svae.errors import UserError
from svae.model.geometry import fitting_latent_sizes
from svae.model.networks import Decoder, Encoder

FITTING = [
    (image, d, stem)
    for image in (32, 64)
    for d, stem in [(1, True), *((d, False) for d in fitting_latent_sizes(image))]
]
OTHERS = [(24, 2, False), (24, 5, False), (128, 7, False), (128, 1, True)]


def random(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).uniform(-1, 1, shape), tf.float32)


def layers(network):
    """(filters, kernel, stride, padding) of each convolution."""
    for block in network.blocks:
        layer = block.convolution
        assert layer.kernel_size[0] == layer.kernel_size[1]
        assert layer.strides[0] == layer.strides[1]
        yield layer.filters, layer.kernel_size[0], layer.strides[0], layer.padding


def sides(network, x):
    """The side of the maps after each block."""
    found = []
    for block in network.blocks:
        x = block(x)
        assert x.shape[1] == x.shape[2]
        found.append(x.shape[1])
    return found


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("image", "d", "stem"), FITTING + OTHERS)
def test_decoder_makes_images(image, d, stem, channels):
    x = Decoder(image, channels, d, stem)(random(2, d, d, 3))
    assert x.shape == (2, image, image, channels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image", [18, 24, 32, 64, 128])
def test_encoder_makes_outputs(image, channels):
    assert Encoder(10, 0.1)(random(2, image, image, channels)).shape == (2, 10)


def test_decoder_refuses_sizes_that_do_not_fit():
    with pytest.raises(UserError, match="1, 3, 7"):
        Decoder(32, 3, 4, stem=False)


ENCODER = [(32, 5, 2, "same"), (64, 5, 2, "same"), (128, 5, 2, "valid")]
SPATIAL_64 = [
    (64, 3, 2, "same"),
    (32, 3, 1, "valid"),
    (32, 5, 2, "same"),
    (16, 5, 2, "same"),
    (3, 5, 2, "same"),
]
VANILLA_64 = [(64, 3, 1, "valid"), (48, 3, 2, "same"), *SPATIAL_64[1:]]


@pytest.mark.parametrize(
    ("image", "d", "stem", "published", "published_sides"),
    [
        (64, 3, False, SPATIAL_64, [6, 8, 16, 32, 64]),
        (64, 1, True, VANILLA_64, [3, 6, 8, 16, 32, 64]),
        (32, 3, False, SPATIAL_64[:3] + SPATIAL_64[4:], [6, 8, 16, 32]),
        (32, 1, True, VANILLA_64[:4] + VANILLA_64[5:], [3, 6, 8, 16, 32]),
    ],
)
def test_decoder_layers_are_the_published_ones(image, d, stem, published, published_sides):
    decoder = Decoder(image, 3, d, stem)
    assert list(layers(decoder)) == published
    assert sides(decoder, random(1, d, d, 64)) == published_sides
    assert all(isinstance(b.convolution, keras.layers.Conv2DTranspose) for b in decoder.blocks)


def test_encoder_layers_are_the_published_ones():
    encoder = Encoder(10, 0.1)
    assert list(layers(encoder)) == ENCODER
    assert sides(encoder, random(1, 64, 64, 3)) == [32, 16, 6]
    assert all(isinstance(block.convolution, keras.layers.Conv2D) for block in encoder.blocks)


def test_each_block_is_convolution_batch_norm_activation():
    """In NumPy after the convolution: epsilon 1e-3, a scale, ELU except for the last block."""
    rng = np.random.default_rng(1)
    decoder = Decoder(32, 3, 3, stem=False)
    z = random(2, 3, 3, 4)
    decoder(z)
    encoder = Encoder(10, 0.1)
    x = random(2, 32, 32, 3)
    encoder(x)
    for network, values in ((decoder, z), (encoder, x)):
        for block in network.blocks:
            last = network is decoder and block is decoder.blocks[-1]
            norm = block.batch_norm
            n = block.convolution.filters
            gamma, beta, mean = rng.normal(size=(3, n))
            variance = rng.uniform(0, 2e-3, n)  # epsilon counts
            norm.set_weights([gamma, beta, mean, variance])
            y = block.convolution(values).numpy()
            y = gamma * (y - mean) / np.sqrt(variance + 1e-3) + beta
            if not last:
                y = np.where(y > 0, y, np.expm1(np.minimum(y, 0)))
            found = block(values)
            np.testing.assert_allclose(found, y, rtol=1e-3, atol=1e-3)
            values = random(*found.shape)  # its own values have grown beyond float32's precision


def dropping_encoder(rate):
    """An encoder whose outputs are its features after the dropout."""
    x = random(20, 32, 32, 3)
    encoder = Encoder(512, rate)
    encoder(x)
    encoder.outputs.set_weights([np.eye(512), np.zeros(512)])

    def features(seed):
        seed = None if seed is None else tf.constant(seed)
        return encoder(x, batch_statistics=True, dropout_seed=seed).numpy()

    return features


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout_drops_its_share_and_scales_the_rest(rate):
    features = dropping_encoder(rate)
    whole, dropped = features(None), features([1, 2])
    assert np.all(whole != 0)
    gone = dropped == 0
    np.testing.assert_allclose(dropped[~gone], whole[~gone] / (1 - rate), rtol=1e-5)
    assert abs(gone.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / gone.size)
    assert gone.any(axis=0).sum() > 400  # each image loses other features
    assert not gone.all(axis=0).any()


def test_dropout_depends_on_its_seed():
    features = dropping_encoder(0.3)
    first = features([1, 2])
    np.testing.assert_array_equal(first, features([1, 2]))
    for seed in ([1, 3], [2, 2]):
        assert np.any(first != features(seed))
    np.testing.assert_array_equal(features(None), features(None))


def test_dropout_of_zero_drops_nothing():
    features = dropping_encoder(0.0)
    np.testing.assert_array_equal(features([1, 2]), features(None))


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_statistics(part):
    if part == "encoder":
        network, x = Encoder(10, 0.1), random(6, 32, 32, 1)
    else:
        network, x = Decoder(32, 1, 3, stem=False), random(6, 3, 3, 2)
    network(x)

    def moving():
        return [w.numpy() for w in network.non_trainable_weights]

    start = moving()
    with_moving = network(x).numpy()
    for before, after in zip(start, moving(), strict=True):
        np.testing.assert_array_equal(before, after)
    # with the moving statistics, images do not affect each other
    np.testing.assert_allclose(network(x[:1]), with_moving[:1], rtol=1e-4, atol=1e-6)

    with_batch = network(x, batch_statistics=True).numpy()
    assert all(np.any(a != b) for a, b in zip(start, moving(), strict=True))
    alone = network(x[:1], batch_statistics=True).numpy()
    assert np.max(abs(alone - with_batch[:1])) > 0.01
    assert np.max(abs(with_moving - with_batch)) > 0.01


def test_initialization_by_the_data_has_smaller_weights():
    found = []
    for start in ("published", "data"):
        keras.utils.set_random_seed(3)
        encoder = Encoder(10, 0.0, initialization=start)
        encoder(random(2, 32, 32, 3))
        found.append(encoder)
    *before, kernel, bias = found[0].trainable_variables
    *same_before, small_kernel, small_bias = found[1].trainable_variables
    limit = np.sqrt(6 / sum(kernel.shape))  # Glorot and Bengio
    assert 0.99 * limit < np.max(abs(kernel)) <= limit
    np.testing.assert_allclose(small_kernel, 0.1 * kernel.numpy(), rtol=1e-5, atol=1e-7)
    assert np.all(bias == 0) and np.all(small_bias == 0)
    for a, b in zip(before, same_before, strict=True):
        np.testing.assert_array_equal(a, b)
